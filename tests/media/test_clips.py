"""Clips at a frame rate, from files of any length."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fastav_plugin.media.clips import read_clip, read_video
from fastav_plugin.media.video import spread
from tests.media.test_video import CLIP, long_clip


@pytest.mark.parametrize("most", [2, 5, 8, 16, 20])
def test_fewer_frames_are_those_of_the_whole_spread_evenly(most: int) -> None:
    whole, waveform = read_clip(CLIP)
    few = read_video(CLIP, 2, most)
    count = min(len(whole), most - most % 2)
    chosen = np.linspace(0, len(whole) - 1, count).round().astype(int)
    assert np.array_equal(few.frames, whole[chosen])
    assert few.fps == 2 * count / len(whole)
    assert few.waveform is not None
    assert np.array_equal(few.waveform, waveform)


def test_a_few_frames_of_two_hours_are_not_the_film(tmp_path: Path) -> None:
    long_clip(tmp_path / "long.mp4")
    tracemalloc.start()
    video = read_video(tmp_path / "long.mp4", 1, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.allclose(video.frames.mean((1, 2, 3)), np.linspace(0, 200, 8), atol=3)
    assert video.waveform is None
    # All frames would be 88 MB; silence as long as the film is none either.
    assert peak < 4_000_000


def test_an_odd_frame_is_repeated() -> None:
    assert spread(0) == []
    assert spread(1) == [0, 0]
    assert spread(5) == [0, 1, 2, 3, 4, 4]
    assert spread(5, 3) == [0, 4]
