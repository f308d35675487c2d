"""Whether what was read is what a player shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.media.made.drawing import COLOURS, Samples, colour_at, find_beeps, outside
from tests.media.made.table import Expected

#: Parts of a second at the end that are not sampled.
_REST = 0.05
#: Amplitude that is none: of codecs, around silence.
_QUIET = 0.05

Pictures = npt.NDArray[np.uint8]


def frame_count(seconds: float, fps: float) -> int:
    """Frames that are sampled of a clip; the last one stands twice where they are odd."""
    count = max(1, math.ceil((seconds - _REST) * fps))
    return count + count % 2


def check_colour(found: Any, colour: str, tolerance: int, where: Any) -> None:
    """A pixel, uint8 [3], is of a colour."""
    differs = np.abs(np.asarray(found, int) - COLOURS[colour]).max()
    assert differs <= tolerance, f"{where}: {colour} {COLOURS[colour]}, got {found}"


def check_corners(picture: Pictures, expected: Expected, where: Any = "") -> None:
    """Size and four quarters of a picture, uint8 [H, W, 3]."""
    if expected.size is not None:
        assert picture.shape == (*expected.size, 3), where
    height, width = picture.shape[:2]
    if expected.corners is not None:
        down, right = height // 4, width // 4
        places = [(y, x) for y in (down, height - 1 - down) for x in (right, width - 1 - right)]
        for place, colour in zip(places, expected.corners, strict=True):
            check_colour(picture[place], colour, expected.tolerance, (where, place))


def check_pictures(frames: Pictures, fps: float, expected: Expected) -> None:
    """Frames, uint8 [T, H, W, 3], that were sampled at `fps`."""
    assert expected.seconds is not None
    assert len(frames) == frame_count(expected.seconds, fps), "frames"
    for number, picture in enumerate(frames):
        # The last one of an odd number stands twice.
        time = min(number, math.ceil((expected.seconds - _REST) * fps) - 1) / fps
        check_corners(picture, expected, f"{time} s")
        colour = colour_at(expected.shown, time) if expected.shown else None
        if colour is not None:
            middle = picture[picture.shape[0] // 2, picture.shape[1] // 2]
            check_colour(middle, colour, expected.tolerance, f"{time} s")


def check_sound(waveform: Samples | None, expected: Expected) -> None:
    """Sound, float32 [n] at 16 kHz: the beeps in their time, and nothing else."""
    if expected.beeps is None:
        assert waveform is None or not (np.abs(waveform) > _QUIET).any(), "sound"
        return
    assert waveform is not None, "no sound"
    for start, frequency in expected.beeps:
        found = list(find_beeps(waveform, frequency))
        near = [place for place in found if abs(place - start) <= expected.late]
        assert near, f"{frequency} Hz at {start} s, got {np.round(found, 4)}"
    rest = outside(waveform, expected.beeps, 0.06 + expected.late)
    loud = np.flatnonzero(np.abs(rest) > _QUIET)
    assert not len(loud), f"sound from {loud[0] / 16_000} s to {loud[-1] / 16_000} s"
