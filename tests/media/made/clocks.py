"""Clips whose clock starts somewhere, is cut by an edit list, runs over or starts anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.media.made.boxes import with_edits
from tests.media.made.drawing import beeping, steady
from tests.media.made.table import Expected, MadeFile
from tests.media.made.timelines import BEEPS, SHOWN, SIX, SIX_BEEPS, beep, clip, later
from tests.media.made.writing import Sound, Track, write

#: Seconds after which the clock of a transport stream starts at 0 again.
CLOCK = 2**33 / 90_000
#: Both tracks cut by 1.5 s, or two parts of them.
CUT_SHOWN = ((0.0, "green"), (0.5, "blue"), (2.5, "white"), (3.5, "yellow"))
CUT_BEEPS = ((3.75, 2000.0),)
PARTS_SHOWN = ((0.0, "red"), (1.0, "green"), (2.0, "white"), (3.0, "yellow"))
PARTS_BEEPS = ((1.25, 1000.0), (3.25, 2000.0))


def _edited(*edits: tuple[float, float]) -> Callable[[bytes], bytes]:
    return lambda data: with_edits(data, edits)


def _restarted(name: str, start: float) -> MadeFile:
    """Two parts of a broadcast, of which the second has a clock of its own."""

    def make(path: Path) -> None:
        parts = []
        for number, colours in enumerate((("red", "green"), ("blue", "white"))):
            move = later(start * number)
            pictures = steady(((0.0, colours[0]), (1.5, colours[1])), 3, 10)
            samples = beeping(((1.25, 1000.0 + 1000 * number),), 2.9, 48_000)
            part = path.with_name(f"{number}-{path.name}")
            write(part, Track(pictures, moved=move), Sound(samples, codec="mp2", moved=move),
                  options={"mpegts_copyts": "1"})  # fmt: skip
            parts.append(part.read_bytes())
            part.unlink()
        path.write_bytes(b"".join(parts))

    shown = ((0.0, "red"), (1.5, "green"), (3.0, "blue"), (4.5, "white"))
    beeps = ((1.25, 1000.0), (4.25, 2000.0))
    expected = Expected(6.0, shown, beeps, None, (64, 96), late=0.12)
    return MadeFile(name, "video", make, expected)


CLOCKS = [
    # Both tracks start somewhere else.
    *(
        clip(
            f"from-{start}.{ending}",
            replace(SIX, moved=later(start)),
            beep(1.25, 5.25, seconds=5.9, moved=later(start)),
            **SIX_BEEPS,
            late=0.03,
        )
        for start in (10, 1000)
        for ending in ("mp4", "mkv", "ts")
    ),
    clip(
        "clock-runs-over.ts",
        replace(SIX, moved=later(CLOCK - 3)),
        beep(1.25, 5.25, seconds=5.9, codec="mp2", moved=later(CLOCK - 3)),
        **SIX_BEEPS,
        late=0.03,
        muxing={"mpegts_copyts": "1"},
    ),
    _restarted("clock-restarts.ts", 0.0),
    _restarted("clock-hours-later.ts", 20_000.0),
    # Times before 0: an edit list leaves them out, Matroska has none.
    clip(
        "negative.mp4",
        replace(SIX, moved=later(-1.5)),
        beep(1.25, 5.25, seconds=5.9, moved=later(-1.5)),
        seconds=4.5,
        shown=CUT_SHOWN,
        beeps=CUT_BEEPS,
        late=0.03,
    ),
    clip(
        "negative-with-b-frames.mp4",
        replace(SIX, moved=later(-1.5), options={"preset": "medium"}),
        beep(1.25, 5.25, seconds=5.9, moved=later(-1.5)),
        seconds=4.5,
        shown=CUT_SHOWN,
        beeps=CUT_BEEPS,
        late=0.03,
    ),
    clip(
        "negative.mkv",
        replace(SIX, moved=later(-0.5)),
        beep(1.25, 5.25, seconds=5.9, moved=later(-0.5), codec="flac"),
        **SIX_BEEPS,
        late=0.03,
        muxing={"avoid_negative_ts": "disabled"},
    ),
    # Edit lists: the beginning cut, the end, a late start of all, two parts of it.
    clip(
        "edit-late.mp4",
        SIX,
        beep(1.25, 5.25, seconds=5.9),
        change=_edited((2, -1), (6, 0)),
        **SIX_BEEPS,
        late=0.03,
    ),
    clip(
        "edit-cut.mp4",
        SIX,
        beep(1.25, 5.25, seconds=5.9),
        change=_edited((4.5, 1.5)),
        seconds=4.5,
        shown=CUT_SHOWN,
        beeps=CUT_BEEPS,
        late=0.03,
    ),
    clip(
        "edit-cut.mov",
        SIX,
        beep(1.25, 5.25, seconds=5.9, codec="pcm_s16le"),
        change=_edited((4.5, 1.5)),
        seconds=4.5,
        shown=CUT_SHOWN,
        beeps=CUT_BEEPS,
        late=0.03,
    ),
    clip(
        "edit-end.mp4",
        SIX,
        beep(1.25, 5.25, seconds=5.9),
        change=_edited((4.5, 0)),
        seconds=4.5,
        shown=SHOWN[:4],
        beeps=BEEPS[:1],
        late=0.03,
    ),
    clip(
        "edit-two-parts.mp4",
        SIX,
        beep(1.25, 5.25, seconds=5.9),
        change=_edited((2, 0), (2, 4)),
        seconds=4,
        shown=PARTS_SHOWN,
        beeps=PARTS_BEEPS,
        late=0.03,
    ),
]
