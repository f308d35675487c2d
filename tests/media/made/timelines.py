"""Clips whose pictures and sound are not where counting them would put them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.media.made.drawing import beeping, changes, steady
from tests.media.made.table import Beeps, Expected, MadeFile, Shown
from tests.media.made.writing import Moved, Sound, Track, write

SHOWN = ((0.0, "red"), (1.0, "green"), (2.0, "blue"), (4.0, "white"), (5.0, "yellow"))
SLIDES = ((0.0, "red"), (0.7, "green"), (3.4, "blue"), (3.9, "white"), (6.2, "yellow"))
BEEPS = ((1.25, 1000.0), (5.25, 2000.0))


def clip(
    name: str,
    *tracks: Track | Sound,
    seconds: float,
    shown: Shown,
    beeps: Beeps | None = None,
    late: float = 0.012,
    format: str | None = None,
    muxing: Mapping[str, str] | None = None,
    refused: str | None = None,
    change: Callable[[bytes], bytes] | None = None,
    cover: bytes | None = None,
) -> MadeFile:
    """Tracks in a file."""

    def make(path: Path) -> None:
        write(path, *tracks, format=format, options=muxing, cover=cover)
        if change is not None:
            path.write_bytes(change(path.read_bytes()))

    expected = Expected(seconds, shown, beeps, None, (64, 96), late=late)
    return MadeFile(name, "video", make, expected, refused)


def moved(shown: Shown, by: float) -> Shown:
    """The same some seconds later; the first one from the start on."""
    return ((0.0, shown[0][1]), *((start + by, colour) for start, colour in shown[1:]))


def beep(*starts: float, seconds: float, rate: int = 48_000, **sound: Any) -> Sound:
    """Beeps of 1000 Hz and 2000 Hz in turn."""
    wanted = tuple((start, 1000.0 * (1 + number % 2)) for number, start in enumerate(starts))
    return Sound(beeping(wanted, seconds, rate), rate, **sound)


def later(by: float) -> Moved:
    """Packets some seconds later."""
    return lambda time: time + by


#: One picture a second; the last is shown for a second as well.
ONE_A_SECOND = Track(steady(SHOWN, 6, 1), last=1, rate=1)
SIX = Track(steady(SHOWN, 6, 10))
SLOW = Track(changes(SLIDES), last=1.8, rate=25, fine=True)
REORDERED = {"preset": "medium", "x264-params": "bframes=3:b-adapt=0:scenecut=0"}
STILL = Track(changes(((0.0, "cyan"),)), last=8, rate=25, fine=True)
CALM = ((0.0, "cyan"),)
NTSC = Fraction(30_000, 1001)
#: A second of 30 pictures, 3 s without any, then 2 a second.
VARIABLE = (
    *((number / 30, "red" if number < 24 else "green") for number in range(30)),
    *((4 + number / 2, ("blue", "white", "yellow")[number // 2]) for number in range(6)),
)
VARIABLE_SHOWN = ((0.0, "red"), (0.8, "green"), (4.0, "blue"), (5.0, "white"), (6.0, "yellow"))


SIX_BEEPS: dict[str, Any] = {"seconds": 6.0, "shown": SHOWN, "beeps": BEEPS}
SLIDES_SHOWN: dict[str, Any] = {"seconds": 8.0, "shown": SLIDES}

TIMELINES = [
    *(
        clip(f"one-a-second.{ending}", ONE_A_SECOND, beep(1.25, 5.25, seconds=5.9), **SIX_BEEPS)
        for ending in ("mp4", "mkv", "ts")
    ),
    *(
        clip(f"slides.{ending}", SLOW, beep(1.25, 5.25, seconds=7.9), beeps=BEEPS, **SLIDES_SHOWN)
        for ending in ("mp4", "mkv", "mov")
    ),
    # Nothing says how long the last one is shown: as long as there is sound.
    clip("slides.ts", SLOW, beep(1.25, 5.25, seconds=7.9), beeps=BEEPS, seconds=7.94, shown=SLIDES),
    # Packets in another order than pictures.
    *(
        clip(
            f"b-frames-one-a-second.{ending}",
            replace(ONE_A_SECOND, options=REORDERED),
            beep(1.25, 5.25, seconds=5.9),
            **SIX_BEEPS,
        )
        for ending in ("mp4", "mkv", "ts")
    ),
    clip(
        "b-frames-slides.mkv",
        replace(SLOW, options=REORDERED),
        beep(1.25, 5.25, seconds=7.9),
        beeps=BEEPS,
        **SLIDES_SHOWN,
    ),
    clip("slides-without-sound.mp4", SLOW, **SLIDES_SHOWN),
    clip("slides-without-sound.mkv", SLOW, **SLIDES_SHOWN),
    clip("still.mp4", STILL, beep(1.25, 5.25, seconds=7.9), seconds=8, shown=CALM, beeps=BEEPS),
    clip("still.mkv", STILL, beep(1.25, 5.25, seconds=8.0), seconds=8, shown=CALM, beeps=BEEPS),
    clip("still-without-sound.mp4", STILL, seconds=8, shown=CALM),
    clip("still-without-sound.mkv", STILL, seconds=8, shown=CALM),
    *(
        clip(
            f"variable-rate.{ending}",
            Track(changes(VARIABLE), last=0.5, rate=30, fine=True),
            seconds=7.0,
            shown=VARIABLE_SHOWN,
        )
        for ending in ("mp4", "mkv")
    ),
    clip("thirty.mp4", Track(steady(SHOWN, 6, 30), last=1 / 30, rate=30), seconds=6, shown=SHOWN),
    clip(
        "ntsc.mkv",
        Track(steady(SLIDES, 8, 29.97), last=1 / 29.97, rate=NTSC),
        seconds=8,
        shown=SLIDES,
    ),
]
