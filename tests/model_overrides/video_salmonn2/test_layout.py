"""Which frames are taken of a clip, and where its audio tokens go."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin.model_overrides.video_salmonn2.layout import (
    audio_of_grids,
    evenly,
    frames_at_rate,
    frames_in_bounds,
    spread_audio,
)


@pytest.mark.parametrize(
    ("seconds", "frames", "each", "tokens"),
    [(10, 10, 6, 1_880), (30, 30, 2, 5_520), (60, 60, 2, 11_040), (110, 110, 3, 20_350)],
)
@pytest.mark.parametrize("fps", [10.0, 23.976, 25.0, 29.97, 60.0])
def test_media_tokens_of_a_clip(
    seconds: int, frames: int, each: int, tokens: int, fps: float
) -> None:
    """182 visual tokens per frame at one frame per second; two audio tokens per second."""
    count = round(seconds * fps)
    assert len(frames_at_rate(count, fps, 1.0, 110)) == frames
    segments = math.ceil(seconds / 30)
    spread = spread_audio(frames, 60 * segments, seconds, segments)
    assert (spread.spread // frames, spread.rest) == (each, 0)
    assert frames * 182 + spread.spread + spread.rest == tokens


def test_a_longer_clip_is_spread_over_the_most_frames() -> None:
    indices = frames_at_rate(25 * 7200, 25.0, 1.0, 110)
    assert len(indices) == 110
    assert (indices[0], indices[-1]) == (0, 25 * 7200 - 1)
    assert all(later - sooner in (1651, 1652) for sooner, later in zip(indices, indices[1:]))  # noqa: B905


@pytest.mark.parametrize(
    ("count", "fps", "expected"),
    [(1, 25.0, [0]), (26, 25.0, [0, 25]), (3, 0.5, [0, 1, 2]), (50, 24.6, [0, 25])],
)
def test_every_nth_frame(count: int, fps: float, expected: list[int]) -> None:
    assert frames_at_rate(count, fps, 1.0, 110) == expected


def test_a_very_short_clip_leaves_a_rest_of_its_sound() -> None:
    """Below 1.2 seconds fewer tokens than a segment's 60 are counted to the frames."""
    spread = spread_audio(1, 60, 1.0, 1)
    assert (spread.front, spread.spread, spread.rest) == (50, 50, 10)
    spread = spread_audio(3, 60, 1.1, 1)
    assert (spread.front, spread.spread, spread.rest) == (55, 57, 5)


def test_a_sound_alone_is_not_spread() -> None:
    spread = spread_audio(0, 120, 0.0, 2)
    assert (spread.segments, spread.front, spread.spread, spread.rest) == (2, 120, 120, 0)


@given(st.integers(1, 110), st.integers(1, 60), st.floats(0.04, 1800))
def test_nothing_of_the_sound_is_lost(frames: int, segments: int, seconds: float) -> None:
    spread = spread_audio(frames, 60 * segments, seconds, segments)
    assert spread.front + spread.rest == 60 * segments
    assert spread.spread % frames == 0
    assert 0 <= spread.spread - spread.front < frames


@given(st.integers(1, 384), st.integers(1, 240), st.floats(0.01, 40))
def test_grids_share_all_audio_tokens(grids: int, segments: int, seconds: float) -> None:
    """Two tokens per second up to each grid, no more than there are, and the rest last."""
    shares = audio_of_grids(grids, 60 * segments, seconds)
    assert len(shares) == grids and min(shares) >= 0 and sum(shares) == 60 * segments
    for grid in range(1, grids):
        assert sum(shares[:grid]) == min(60 * segments, math.floor(grid * seconds * 2))


def test_ten_frames_per_second_in_pairs_have_a_token_every_half_second() -> None:
    shares = audio_of_grids(50, 60, 0.2)
    assert [grid for grid, count in enumerate(shares[:-1]) if count] == [
        2, 4, 7, 9, 12, 14, 17, 19, 22, 24, 27, 29, 32, 34, 37, 39, 42, 44, 47,
    ]  # fmt: skip
    assert shares[-1] == 60 - 19


@pytest.mark.parametrize(
    ("seconds", "count", "expected"),
    [(5.0, 125, 50), (0.5, 12, 12), (1.0, 25, 16), (7200.0, 180_000, 768), (0.04, 1, 1)],
)
def test_frames_of_a_grid_clip(seconds: float, count: int, expected: int) -> None:
    indices = frames_in_bounds(seconds, count, 10.0, (16, 768))
    assert len(indices) == len(set(indices)) == expected
    assert (indices[0], indices[-1]) == (0, count - 1)


def test_an_even_spread_has_both_ends() -> None:
    assert evenly(5, 3) == [0, 2, 4]
    assert evenly(2, 9) == [0, 1]
    assert evenly(1, 9) == [0]
