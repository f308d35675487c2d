"""What is shown when, and which moments are sampled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin.media.timeline import (
    ROUNDING,
    count_samples,
    shown_at,
    spread,
    steady_rate,
)

#: Times of pictures in milliseconds, as Matroska has them.
stamps = st.lists(st.integers(0, 60_000), min_size=1, max_size=40, unique=True).map(sorted)


@given(stamps, st.lists(st.integers(0, 70_000), min_size=1, max_size=20))
def test_a_picture_lasts_until_the_next_one(starts: list[int], times: list[int]) -> None:
    found = shown_at([s / 1000 for s in starts], [t / 1000 for t in times])
    for time, number in zip(times, found, strict=True):
        earlier = [i for i, start in enumerate(starts) if start <= time + 1]
        assert number == max(earlier, default=0)


def test_the_first_picture_is_shown_from_the_beginning() -> None:
    assert shown_at([2.0, 3.0], [0.0, 1.9, 2.0, 2.9, 3.0, 99.0]) == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("seconds", "fps", "count"),
    [
        *((8.0, 2, 16), (8.008, 2, 16), (8.3, 2, 17), (7.98, 2, 16), (7.5, 2, 15)),
        *((8.0, 1, 8), (60.0, 0.1, 6), (0.0, 2, 1), (0.001, 25, 1), (10.0, 30, 300)),
    ],
)
def test_samples_of_a_clip(seconds: float, fps: float, count: int) -> None:
    """What is left at the end for less than 50 ms, or half a sample, is not sampled."""
    assert count_samples(seconds, fps) == count


@given(st.floats(0.01, 3600), st.floats(0.1, 60))
def test_every_sample_lies_in_the_clip_and_none_is_missing(seconds: float, fps: float) -> None:
    count = count_samples(seconds, fps)
    assert count == 1 or (count - 1) / fps < seconds
    assert count / fps >= seconds - 0.05 - 1e-6


@given(st.integers(1, 500), st.integers(1, 64))
def test_a_spread_is_even_ascending_and_has_both_ends(count: int, most: int) -> None:
    found = spread(count, most)
    assert len(found) % 2 == 0
    assert len(found) <= max(2, most)
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, count - 1)
    steps = np.diff(found)
    assert count < most or steps.max() - steps.min() <= 2


def test_an_odd_frame_is_repeated() -> None:
    assert spread(1) == [0, 0]
    assert spread(5) == [0, 1, 2, 3, 4, 4]
    assert spread(5, 3) == [0, 4]


@given(st.floats(1, 60), st.integers(2, 300), st.floats(0, 5))
def test_a_steady_rate_is_found_in_rounded_stamps(rate: float, count: int, first: float) -> None:
    starts = np.round(first + np.arange(count) / rate, 3)
    found = steady_rate(starts, starts[-1] + 1 / rate)
    assert found is not None
    assert abs(1 / found - 1 / rate) <= ROUNDING


def test_pictures_without_a_steady_rate() -> None:
    assert steady_rate(np.array([0.0]), 8.0) is None
    assert steady_rate(np.array([0.0, 1.0, 1.5, 4.0]), 5.0) is None
    # The last picture stands.
    assert steady_rate(np.arange(4.0), 20.0) is None
    assert steady_rate(np.arange(4.0), 4.0) == 1.0
    assert steady_rate(np.arange(4.0), 3.5) is None
    # Slides.
    assert steady_rate(10 * np.arange(3.0), 25.0) is None
    assert steady_rate(10 * np.arange(3.0), 30.0) is None
