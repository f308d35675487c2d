"""Rotary positions of 2+, counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, FastAVConfig, TokenMapError, detach
from fastav_plugin.model_overrides.video_salmonn2.positions import (
    AUDIO,
    IMAGE,
    VIDEO,
    Grid,
    media_runs,
    reference_positions,
    trained_positions,
)
from tests.model_overrides.video_salmonn2 import tiny
from tests.support.cache_names import passing

#: Text, two grids of 1 x 2 tokens with one and two audio tokens, text.
KINDS = torch.tensor([0, 0, VIDEO, VIDEO, AUDIO, VIDEO, VIDEO, AUDIO, AUDIO, 0, 0])


def grids(*clips: Grid, pictures: tuple[Grid, ...] = ()) -> Any:
    return {VIDEO: iter(clips), IMAGE: iter(pictures)}


def columns(positions: Tensor) -> list[tuple[int, ...]]:
    return [tuple(column) for column in positions.T.tolist()]


def test_trained_positions_lay_sound_beside_pictures() -> None:
    found = trained_positions(KINDS, grids(Grid(2, 1, 2, 1.5)))
    assert columns(found) == [
        (0, 0, 0), (1, 1, 1),
        (2, 2, 2), (2, 2, 3), (2, 2, 2),
        (5, 2, 2), (5, 2, 3), (3, 2, 3), (4, 2, 4),
        (6, 6, 6), (7, 7, 7),
    ]  # fmt: skip


def test_reference_positions_lay_the_grid_over_the_sound() -> None:
    found = reference_positions(KINDS, grids(Grid(2, 1, 2, 1.5)))
    assert columns(found) == [
        (0, 0, 0), (1, 1, 1),
        (2, 2, 2), (2, 2, 3), (4, 2, 2), (4, 2, 3),
        (5, 5, 5), (6, 6, 6), (7, 7, 7), (8, 8, 8), (9, 9, 9),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [trained_positions, reference_positions])
def test_without_sound_both_are_those_of_qwen(count: Any) -> None:
    kinds = torch.tensor([0, *[IMAGE] * 6, 0, *[VIDEO] * 4, 0])
    found = count(kinds, grids(Grid(2, 1, 2, 1.0), pictures=(Grid(1, 2, 3),)))
    assert columns(found) == [
        (0, 0, 0),
        (1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 2, 1), (1, 2, 2), (1, 2, 3),
        (4, 4, 4),
        (5, 5, 5), (5, 5, 6), (7, 5, 5), (7, 5, 6),
        (8, 8, 8),
    ]  # fmt: skip


def test_a_sound_alone() -> None:
    found = trained_positions(torch.tensor([0, AUDIO, AUDIO, AUDIO, 0]), grids())
    assert columns(found) == [(0, 0, 0), (1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 4, 4)]
    flat = reference_positions(torch.tensor([0, AUDIO, AUDIO, AUDIO, 0]), grids())
    assert columns(flat) == [(index,) * 3 for index in range(5)]


def test_two_clips_take_their_own_grids() -> None:
    kinds = torch.tensor([VIDEO, VIDEO, AUDIO, 0, VIDEO, AUDIO, AUDIO])
    found = trained_positions(kinds, grids(Grid(1, 1, 2, 1.0), Grid(1, 1, 1, 1.0)))
    assert columns(found) == [
        (0, 0, 0), (0, 0, 1), (0, 0, 0),
        (1, 1, 1),
        (2, 2, 2), (2, 2, 2), (3, 2, 3),
    ]  # fmt: skip


def test_runs() -> None:
    assert media_runs(KINDS) == [(2, 9)]
    assert media_runs(torch.tensor([VIDEO, 0, AUDIO])) == [(0, 1), (2, 3)]
    assert media_runs(torch.zeros(3, dtype=torch.int64)) == []


def test_grids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TokenMapError, match="4 placeholders in a row for a medium of 6 tokens"):
        trained_positions(KINDS, grids(Grid(3, 1, 2, 1.0)))
    for count in (trained_positions, reference_positions):
        with pytest.raises(TokenMapError, match="more pictures or clips than sizes"):
            count(KINDS, grids())


@pytest.mark.parametrize("positions", ["trained", "reference"])
def test_generate_counts_rows_of_a_batch_on_their_own(
    positions: str, clips: dict[str, Path]
) -> None:
    """Both settings, padded: each row has the positions it has alone, and decoding goes on."""
    model = tiny.build("video_salmonn2_plus", positions=positions)
    processor = tiny.processor("video_salmonn2_plus")
    seen: list[Tensor] = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    options = {"max_new_tokens": 2, "suppress_tokens": tiny.SUPPRESSED, "do_sample": False}
    together = processor(video=[clips["three"], clips["short"]], text=["What is it?", "Why?"])
    model.generate(**together, **options)
    padded, following = seen
    assert torch.equal(following[1:, :, 0], padded[1:, :, -1] + 1)
    for row, (clip, text) in enumerate([("three", "What is it?"), ("short", "Why?")]):
        alone = processor(video=clips[clip], text=text)
        seen.clear()
        model.generate(**alone, **options)
        length = alone["input_ids"].shape[1]
        assert torch.equal(padded[:, row, -length:], seen[0][:, 0])
        pieces = [frames for frames in alone["frame_ids"][0].tolist() if frames >= 0]
        assert pieces == sorted(pieces)
    handle.remove()


def test_the_two_settings_differ_and_both_prune(clips: dict[str, Path]) -> None:
    inputs = tiny.processor("video_salmonn2_plus")(video=clips["three"], text="What?")
    found = {}
    for positions in ("trained", "reference"):
        model = tiny.build("video_salmonn2_plus", positions=positions)
        with torch.no_grad():
            found[positions] = model(**inputs).logits[:, -1]
        cache = FastAVCache(FastAVConfig.for_model(model))
        model.generate(
            **inputs, **passing(cache), max_new_tokens=2, suppress_tokens=tiny.SUPPRESSED
        )
        kept = cache.report().modality_per_layer
        detach(model)
        # Four grids of 16 tokens, and the two audio tokens among them.
        assert (kept["video"][3], kept["audio"][3]) == (64, 2)
    assert (found["trained"] - found["reference"]).abs().max() > 0.01
