"""The control keeps as many tokens in every layer as what it stands beside, and others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.attach import detach
from fastav_plugin.hooks.base import ENTRANCE
from fastav_plugin.lab.arenas.control import Counts, Oracle, RandomAsMany, counts_by_cut
from fastav_plugin.tokens import TokenMap
from tests.support import small_models

LENGTH = 120
TOKENS = TokenMap.from_spans(LENGTH, video=[(4, 60)], audio=[(60, 110)])


@pytest.fixture(scope="module")
def model() -> Any:
    return small_models.qwen2()


def prefill(model: Any, config: FastAVConfig, seed: int = 3) -> Any:
    ids = small_models.prompt(seed, length=LENGTH)
    cache = FastAVCache(config, tokens=TOKENS)
    run_once(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, cache=cache)
    detach(model)
    return cache.report()


SETTINGS = {
    "fine": FastAVConfig(hooks=[{"name": "fine_pruning", "drop_ratio": 0.3, "after_layer": 1}]),
    "entrance": FastAVConfig(method="divprune", visual_keep_ratio=0.4, audio_keep_ratio=0.2),
    "both": FastAVConfig(method="divprune+late_removal", visual_keep_ratio=0.4),
    "competing": FastAVConfig(method="low_attentive", audio_keep_ratio=0.3),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_control_has_the_counts_of_what_it_stands_beside(model: Any, name: str) -> None:
    report = prefill(model, SETTINGS[name])
    hook = RandomAsMany(counts_by_cut(report), seed=5)
    control = prefill(model, FastAVConfig(hooks=[hook]))
    assert control.tokens_per_layer == report.tokens_per_layer
    assert control.modality_per_layer == report.modality_per_layer
    assert control.flops_ratio <= report.flops_ratio
    own, drawn = (set(each.positions[-2][0].tolist()) for each in (report, control))
    assert own != drawn


def test_counts_are_those_of_the_cuts(model: Any) -> None:
    report = prefill(model, SETTINGS["both"])
    assert counts_by_cut(report) == {ENTRANCE: Counts(22, 50), 3: Counts(0, 0)}


def test_draws_follow_from_the_seed_and_nest(model: Any) -> None:
    counts = {ENTRANCE: Counts(30, 20), 2: Counts(10, 5)}

    def kept(seed: int) -> list[list[int]]:
        report = prefill(model, FastAVConfig(hooks=[RandomAsMany(counts, seed)]))
        return [layer[0].tolist() for layer in report.positions]

    first = kept(1)
    assert first == kept(1) != kept(2)
    assert set(first[3]) < set(first[0])


def test_draws_favour_no_place(model: Any) -> None:
    """Each of 56 tokens is among 28 kept in half of 200 draws."""
    taken = torch.zeros(LENGTH)
    for seed in range(200):
        hook = RandomAsMany({ENTRANCE: Counts(28, 50)}, seed)
        taken[prefill(model, FastAVConfig(hooks=[hook])).positions[0][0]] += 1
    video = taken[4:60]
    assert float(video.mean()) == 100
    # Four standard deviations of a share of 200 draws.
    assert float((video - 100).abs().max()) < 4 * (200 * 0.25) ** 0.5
    assert abs(float(video[:28].mean()) - 100) < 6


def test_an_upper_bound_keeps_what_it_is_told(model: Any) -> None:
    known = [10, 11, 59, 70]
    hook = Oracle(0.1, 0.1, layer=2, evidence=known)
    report = prefill(model, FastAVConfig(hooks=[hook]))
    kept = set(report.positions[2][0].tolist())
    assert set(known) <= kept
    assert report.tokens_per_layer == [120, 120, 14 + 11, 14 + 11]
    assert len(report.positions[1][0]) == LENGTH
