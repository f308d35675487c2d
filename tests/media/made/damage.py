"""Files that are damaged: in one place, or as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.media.made.boxes import without
from tests.media.made.containers import CODEC
from tests.media.made.table import Expected, MadeFile, Shown
from tests.media.made.timelines import BEEPS, SHOWN, SIX, beep
from tests.media.made.writing import Sound, Track, write

HEARD = beep(1.25, 5.25, seconds=5.9)
INTRA = replace(SIX, codec="mjpeg", pix_fmt="yuvj420p")
GROUPS = replace(SIX, options={"g": "10"})
#: From a third on: any colour.
THIRD: Shown = ((0.0, "red"), (1.0, "green"), (1.4, None))
UNREADABLE = "Cannot read the media file '.*{}'"


def damaged(
    name: str,
    *tracks: Track | Sound,
    change: Callable[[bytes], bytes] = bytes,
    expected: Expected,
    options: dict[str, str] | None = None,
    refused: str | None = None,
) -> MadeFile:
    """Tracks in a file whose bytes are changed."""

    def make(path: Path) -> None:
        write(path, *tracks, options=options)
        path.write_bytes(change(path.read_bytes()))

    return MadeFile(name, "video", make, expected, refused)


def whole(name: str, **rest: Any) -> Expected:
    """A file that is refused, and what can be decoded of it."""
    return Expected(**{"late": 0.03, **rest}, error=UNREADABLE.format(name))


def nothing(name: str, content: bytes, role: Any = "video") -> MadeFile:
    """A file of which nothing can be read."""
    return MadeFile(name, role, lambda path: _write_bytes(path, content), whole(name))


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _spoil(first: float, last: float) -> Callable[[float, bytes], bytes]:
    """Zeros for the packets of a moment."""
    return lambda time, data: bytes(len(data)) if first <= time < last else data


def _cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: round(len(data) * share)]


def _zeroed(data: bytes) -> bytes:
    """The media, not the index, are zeros from a third on."""
    start, stop = data.index(b"mdat") + 4, data.rindex(b"moov") - 4
    third = start + (stop - start) // 3
    return data[:third] + bytes(stop - third) + data[stop:]


#: One packet cannot be decoded: its moment alone may show anything.
MOMENT = ((0.0, "red"), (1.0, "green"), (2.0, "blue"), (2.95, None), (3.15, "blue"), *SHOWN[3:])
ONE = Expected(6.0, MOMENT, BEEPS, None, (64, 96), late=0.03)
REST_OF_GROUP = ((0.0, "red"), (1.0, "green"), (2.0, "blue"), (3.0, None), *SHOWN[3:])
HTML = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not Found</body></html>" * 20
CUT = {"shown": ((0.0, "red"), (1.0, "green"), (2.0, "blue")), "size": (64, 96)}

DAMAGE = [
    damaged(
        "one-packet.mkv",
        replace(INTRA, spoilt=_spoil(2.95, 3.05)),
        HEARD,
        expected=ONE,
        refused=CODEC,
    ),
    damaged(
        "one-packet.avi",
        replace(INTRA, spoilt=_spoil(2.95, 3.05)),
        replace(HEARD, codec="pcm_s16le"),
        expected=ONE,
        refused=CODEC,
    ),
    damaged(
        "one-packet-of-ffv1.mkv",
        replace(SIX, codec="ffv1", options={"g": "1", "slicecrc": "1"}, spoilt=_spoil(2.95, 3.05)),
        HEARD,
        expected=ONE,
        refused=CODEC,
    ),
    *(
        damaged(
            f"one-packet-of-h264.{ending}",
            replace(GROUPS, spoilt=_spoil(3.05, 3.15)),
            HEARD,
            expected=replace(ONE, shown=REST_OF_GROUP),
        )
        for ending in ("mp4", "mkv")
    ),
    damaged(
        "one-packet-of-hevc.mp4",
        replace(
            GROUPS,
            codec="libx265",
            options={"x265-params": "keyint=10:log-level=none"},
            spoilt=_spoil(3.05, 3.15),
        ),
        HEARD,
        expected=replace(ONE, shown=REST_OF_GROUP),
    ),
    damaged(
        "first-key-frame-but-one.mp4",
        replace(GROUPS, spoilt=_spoil(2.95, 3.05)),
        HEARD,
        expected=replace(ONE, shown=REST_OF_GROUP),
    ),
    *(
        damaged(
            f"one-packet-of-sound.{ending}",
            SIX,
            replace(HEARD, codec=codec, spoilt=_spoil(3.0, 3.02)),
            expected=replace(ONE, shown=SHOWN),
        )
        for ending, codec in (("mp4", "aac"), ("mkv", "libopus"), ("ts", "mp2"))
    ),
    # The first ones: the first picture that can be decoded is shown from the start on.
    damaged(
        "first-packet.mkv",
        replace(INTRA, spoilt=_spoil(-1, 0.05)),
        HEARD,
        expected=replace(ONE, shown=SHOWN),
        refused=CODEC,
    ),
    damaged(
        "first-group-of-h264.mkv",
        replace(GROUPS, spoilt=_spoil(-1, 0.95)),
        HEARD,
        expected=replace(ONE, shown=((0.0, "green"), *SHOWN[2:])),
    ),
    damaged(
        "no-index.mp4",
        SIX,
        HEARD,
        change=lambda data: without(data, b"moov"),
        expected=whole("no-index.mp4"),
    ),
    damaged(
        "cut-before-index.mp4", SIX, HEARD, change=_cut(0.5), expected=whole("cut-before-index.mp4")
    ),
    damaged(
        "cut-after-index.mp4",
        INTRA,
        HEARD,
        change=_cut(0.6),
        options={"movflags": "faststart"},
        refused=CODEC,
        expected=whole(
            "cut-after-index.mp4",
            seconds=3.7,
            size=(64, 96),
            beeps=BEEPS[:1],
            shown=SHOWN[:3],
        ),
    ),
    damaged(
        "cut.mkv",
        INTRA,
        HEARD,
        change=_cut(0.47),
        refused=CODEC,
        expected=whole("cut.mkv", seconds=3.0, beeps=BEEPS[:1], **CUT),
    ),
    damaged(
        "cut.avi",
        INTRA,
        replace(HEARD, codec="pcm_s16le"),
        change=_cut(0.5),
        refused=CODEC,
        expected=whole("cut.avi", seconds=3.0, beeps=BEEPS[:1], **CUT),
    ),
    damaged(
        "zeros.mp4",
        INTRA,
        HEARD,
        change=_zeroed,
        refused=CODEC,
        expected=whole("zeros.mp4", seconds=6.0, shown=THIRD, size=(64, 96)),
    ),
    damaged(
        "zeros-of-h264.mp4",
        GROUPS,
        replace(HEARD, codec="alac"),
        change=_zeroed,
        expected=whole("zeros-of-h264.mp4", seconds=6.0, shown=THIRD, size=(64, 96)),
    ),
    nothing("empty.mp4", b""),
    nothing("page.mp4", HTML),
    nothing("text.mp4", b"This is no clip but a note. " * 50),
    nothing("zeros.bin.mp4", bytes(50_000)),
    nothing("empty.jpg", b"", "image"),
    nothing("page.png", HTML, "image"),
    nothing("empty.wav", b"", "audio"),
    nothing("page.mp3", HTML, "audio"),
]
