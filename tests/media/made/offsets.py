"""Clips that start late, stop early, or have gaps or overlaps."""

from __future__ import annotations

from dataclasses import replace

from tests.media.made.containers import CODEC
from tests.media.made.drawing import steady
from tests.media.made.timelines import BEEPS, SHOWN, SIX, SIX_BEEPS, beep, clip, moved
from tests.media.made.writing import Moved, Track

#: Pictures from 1.9 s on.
LATE = Track([(time + 1.9, picture) for time, picture in steady(SHOWN, 6, 10)])
#: Key frames each second, so that packets may be left out.
CUTTABLE = replace(SIX, options={"g": "10"})


def _without(first: float, last: float) -> Moved:
    return lambda time: None if first <= time < last else time


def _from(first: float, by: float) -> Moved:
    return lambda time: time if time < first else time + by


OFFSETS = [
    *(
        clip(
            f"late-sound.{ending}",
            SIX,
            beep(0.5, 3.5, seconds=3.9, start=2.0, codec=codec),
            seconds=6,
            shown=SHOWN,
            beeps=((2.5, 1000.0), (5.5, 2000.0)),
            late=0.03,
        )
        for ending, codec in (("mp4", "aac"), ("mkv", "flac"), ("ts", "aac"))
    ),
    clip(
        "late-sound.webm",
        replace(SIX, codec="libvpx"),
        beep(0.5, 3.5, seconds=3.9, start=2.0, codec="libopus"),
        seconds=6,
        shown=SHOWN,
        beeps=((2.5, 1000.0), (5.5, 2000.0)),
    ),
    *(
        clip(
            f"late-pictures.{ending}",
            LATE,
            beep(1.25, 5.25, seconds=7.9, codec=codec),
            seconds=7.9,
            shown=moved(SHOWN, 1.9),
            beeps=BEEPS,
            late=0.03,
        )
        for ending, codec in (("mp4", "aac"), ("mkv", "pcm_s16le"), ("ts", "mp2"))
    ),
    *(
        clip(
            f"long-sound.{ending}",
            SIX,
            beep(1.25, 8.25, seconds=9.0, codec=codec),
            seconds=9,
            shown=SHOWN,
            beeps=((1.25, 1000.0), (8.25, 2000.0)),
            late=0.03,
        )
        for ending, codec in (("mp4", "aac"), ("mkv", "flac"))
    ),
    *(
        clip(
            f"short-sound.{ending}",
            SIX,
            beep(1.25, seconds=2.0, codec=codec),
            seconds=6,
            shown=SHOWN,
            beeps=BEEPS[:1],
            late=0.03,
        )
        for ending, codec in (("mp4", "aac"), ("mkv", "flac"), ("avi", "pcm_s16le"))
    ),
    # Packets of sound from 2 s to 4 s are missing.
    *(
        clip(
            f"gap-{codec}.{ending}",
            SIX,
            beep(1.25, 5.25, seconds=5.9, codec=codec, moved=_without(2, 4)),
            **SIX_BEEPS,
            late=0.03,
        )
        for codec, ending in (
            ("aac", "mp4"),
            ("aac", "ts"),
            ("libmp3lame", "mkv"),
            ("libopus", "mkv"),
            ("flac", "mkv"),
        )
    ),
    clip(
        "moved-part.mkv",
        SIX,
        beep(1.0, 3.0, seconds=4.4, codec="pcm_s16le", moved=_from(2, 1.5)),
        seconds=6,
        shown=SHOWN,
        beeps=((1.0, 1000.0), (4.5, 2000.0)),
    ),
    clip(
        "overlap.mkv",
        SIX,
        beep(1.0, 3.0, seconds=6.0, codec="pcm_s16le", moved=_from(2, -0.5)),
        seconds=6,
        shown=SHOWN,
        beeps=((1.0, 1000.0), (2.5, 2000.0)),
    ),
    clip(
        "overlap.ts",
        SIX,
        beep(1.0, 3.0, seconds=6.0, codec="mp2", moved=_from(2, -0.5)),
        seconds=6,
        shown=SHOWN,
        beeps=((1.0, 1000.0), (2.5, 2000.0)),
        late=0.03,
    ),
    # No pictures from 2.5 s to 5 s: the last one before stays.
    *(
        clip(
            f"gap-of-pictures.{ending}",
            replace(CUTTABLE, moved=_without(2.45, 4.95)),
            beep(1.25, 5.25, seconds=5.9),
            seconds=6,
            beeps=BEEPS,
            late=0.03,
            shown=((0.0, "red"), (1.0, "green"), (2.0, "blue"), (5.0, "yellow")),
        )
        for ending in ("mp4", "mkv", "ts")
    ),
    # A signal that was lost for two seconds.
    clip(
        "lost-signal.ts",
        replace(CUTTABLE, moved=_without(1.95, 3.95)),
        beep(1.25, 5.25, seconds=5.9, codec="mp2", moved=_without(1.95, 3.95)),
        seconds=6,
        shown=SHOWN[:2] + SHOWN[3:],
        beeps=BEEPS,
        late=0.03,
    ),
    clip("sound-first.mp4", beep(1.25, 5.25, seconds=5.9), SIX, **SIX_BEEPS),
    clip("sound-first.mkv", beep(1.25, 5.25, seconds=5.9, codec="libopus"), SIX, **SIX_BEEPS),
    # Of MJPEG each picture stands alone; without times of its own it has the file's rate.
    clip(
        "two-a-second.avi",
        Track(
            steady(SHOWN, 6, 2),
            last=0.5,
            rate=2,
            codec="mjpeg",
            pix_fmt="yuvj420p",
            full_range=True,
        ),
        beep(1.25, 5.25, seconds=5.9, codec="pcm_s16le"),
        **SIX_BEEPS,
        refused=CODEC,
    ),
]
