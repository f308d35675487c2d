"""Pictures of plain colours and sounds of beeps, and how they are found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tests.media.made.table import Beeps, Shown

Picture = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "white": (235, 235, 235),
    "yellow": (220, 220, 30),
    "magenta": (220, 30, 220),
    "cyan": (30, 220, 220),
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
    "light": (200, 200, 200),
    "dark": (60, 60, 60),
    # What is behind a transparent picture, and how others look before it or without colour.
    "paper": (255, 255, 255),
    "ink": (0, 0, 0),
    "half": (100, 100, 100),
    "grey of red": (87, 87, 87),
    "grey of green": (130, 130, 130),
}
#: The corners of `four_corners`.
CORNERS = ("red", "green", "blue", "white")

WIDTH, HEIGHT = 96, 64
BEEP_SECONDS = 0.2


def plain(colour: str, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """A picture of one colour: uint8 [H, W, 3]."""
    return np.full((height, width, 3), COLOURS[colour], np.uint8)


def four_corners(
    width: int = WIDTH, height: int = HEIGHT, corners: Sequence[str] = CORNERS
) -> Picture:
    """A picture of four quarters: uint8 [H, W, 3]."""
    picture = np.empty((height, width, 3), np.uint8)
    halves = (slice(0, height // 2), slice(height // 2, height))
    sides = (slice(0, width // 2), slice(width // 2, width))
    for number, colour in enumerate(corners):
        picture[halves[number // 2], sides[number % 2]] = COLOURS[colour]
    return picture


def colour_at(shown: Shown, time: float) -> str | None:
    """The colour that is shown at a time; before the first one, the first."""
    found = shown[0][1]
    for start, colour in shown:
        if start <= time + 1e-6:
            found = colour
    return found


def steady(
    shown: Shown, seconds: float, fps: float, width: int = WIDTH, height: int = HEIGHT
) -> list[tuple[float, Picture]]:
    """A picture for each 1/fps of a second, with its time."""
    times = [number / fps for number in range(round(seconds * fps))]
    return [(time, plain(colour_at(shown, time) or "grey", width, height)) for time in times]


def changes(shown: Shown, width: int = WIDTH, height: int = HEIGHT) -> list[tuple[float, Picture]]:
    """One picture for each colour, at its time."""
    return [(time, plain(colour or "grey", width, height)) for time, colour in shown]


def beeping(beeps: Beeps, seconds: float, rate: int, channels: int = 1) -> Samples:
    """Silence with beeps: float32 [channels, n]."""
    sound = np.zeros(round(seconds * rate), np.float32)
    for start, frequency in beeps:
        first, count = round(start * rate), round(BEEP_SECONDS * rate)
        wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(count) / rate)
        piece = sound[first : first + count]
        piece += wave[: len(piece)].astype(np.float32)
    return np.repeat(sound[None], channels, axis=0)


def loudness(waveform: Samples, frequency: float, rate: int = 16_000) -> npt.NDArray[np.float64]:
    """Amplitude of a frequency around each sample: float64 [n]."""
    half = round(0.005 * rate)
    turning = np.exp(-2j * np.pi * frequency * np.arange(len(waveform)) / rate)
    reached = np.cumsum(np.pad(waveform * turning, (half + 1, half)))
    summed = reached[2 * half + 1 :] - reached[: -2 * half - 1]
    return np.asarray(np.abs(summed) / half)


def find_beeps(waveform: Samples, frequency: float, rate: int = 16_000) -> Iterator[float]:
    """Starts of the beeps of a frequency, in seconds."""
    if not len(waveform):
        return
    amplitude = loudness(waveform, frequency, rate)
    # Half the amplitude is reached where half of what is looked at is beep.
    loud = amplitude > max(0.05, amplitude.max() / 2)
    last = -1.0
    for place in np.flatnonzero(np.diff(loud.astype(np.int8), prepend=0) == 1):
        if place / rate - last > 1.5 * BEEP_SECONDS:
            yield float(place / rate)
        last = place / rate


def outside(waveform: Samples, beeps: Beeps, margin: float, rate: int = 16_000) -> Samples:
    """What is heard apart from the beeps and some seconds on either side of them."""
    rest = waveform.copy()
    for start, _ in beeps:
        first, last = start - margin, start + BEEP_SECONDS + margin
        rest[max(0, round(first * rate)) : round(last * rate)] = 0
    return rest
