"""The numbers of a page are those of the reports."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from fastav_plugin.analysis.explore.data import MOST_PICTURES, layers_seeing, page_data
from fastav_plugin.analysis.media_tokens import Picture
from fastav_plugin.display.units import flops, percent, size
from tests.analysis.explore.conftest import Explored


@pytest.mark.parametrize("index", range(4))
def test_every_token_is_seen_by_the_layers_that_hold_it(explored: Explored, index: int) -> None:
    outcome = explored.outcomes[index]
    shown = [explored.data["dense"], *explored.data["methods"]][index]
    report = outcome.report
    assert report is not None
    for layer, count in enumerate(report.tokens_per_layer):
        seen = [position for position, until in enumerate(shown["until"]) if until > layer]
        assert seen == report.kept_positions(layer)
        assert len(seen) == count == shown["tokens"][layer]
    assert shown["modalities"] == report.modality_per_layer


@pytest.mark.parametrize("index", range(4))
def test_costs_of_layers_add_up(explored: Explored, index: int) -> None:
    outcome, dense = explored.outcomes[index], explored.outcomes[0]
    shown = [explored.data["dense"], *explored.data["methods"]][index]
    assert sum(shown["macs"]) == outcome.macs
    layers = outcome.flops_ratio - outcome.overhead_ratio
    assert outcome.macs / dense.macs == pytest.approx(layers)
    assert sum(shown["kv_bytes"]) == outcome.kv_bytes
    assert shown["flops"] == [flops(macs) for macs in shown["macs"]]
    assert shown["kv"] == [size(count) for count in shown["kv_bytes"]]
    assert shown["sums"]["flops_share"] == percent(outcome.flops_ratio)
    tokens = np.array(outcome.tokens_per_layer) / np.array(dense.tokens_per_layer)
    assert shown["kv_share"] == [percent(ratio) for ratio in tokens]


def test_answers_stand_beside_the_dense_one(explored: Explored) -> None:
    found = explored.data["methods"]
    assert [method["method"] for method in found] == ["fastav", "divprune", "fastav+divprune"]
    assert [method["agrees"] for method in found] == [False, True, False]


def test_the_prompt_is_told_in_runs(explored: Explored) -> None:
    report = explored.outcomes[0].report
    assert report is not None
    kinds = [kind for kind, count in explored.data["kinds"] for _ in range(count)]
    for kind in ("text", "video", "audio"):
        positions = [place for place, own in enumerate(kinds) if own == kind]
        assert positions == report.kept_positions(0, kind)
    assert all(one[0] != two[0] for one, two in itertools.pairwise(explored.data["kinds"]))


def test_pictures_and_sound_hold_all_their_tokens(explored: Explored) -> None:
    report = explored.outcomes[0].report
    assert report is not None
    pictures = explored.data["pictures"]
    positions = [position for picture in pictures for position in picture["positions"]]
    assert positions == report.kept_positions(0, "video")
    assert [picture["seconds"] for picture in pictures] == list(range(8))
    assert {tuple(picture["grid"]) for picture in pictures} == {(4, 4)}
    sound = explored.data["sound"]
    assert sound["positions"] == report.kept_positions(0, "audio")
    assert (len(sound["envelope"]), max(sound["envelope"]), sound["seconds"]) == (200, 1, 8)


def test_of_many_pictures_some_are_shown(explored: Explored) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pictures = [Picture("video", pixels, np.array([i]), (1, 1), float(i)) for i in range(200)]
    data = page_data(
        question="q", model="m", outcomes=explored.outcomes, pictures=pictures, waveform=None
    )
    assert (len(data["pictures"]), data["pictures_left_out"]) == (MOST_PICTURES, 152)
    assert [data["pictures"][place]["seconds"] for place in (0, -1)] == [0, 199]
    assert data["sound"] is None


def test_a_token_that_comes_back_is_our_error(explored: Explored) -> None:
    report = explored.outcomes[1].report
    assert report is not None
    lost = [[torch.tensor([0, 1])], [torch.tensor([0])], [torch.tensor([0, 1])]]
    with pytest.raises(AssertionError, match="came back"):
        layers_seeing(dataclasses.replace(report, positions=lost))
