"""Clips with several tracks of a kind: which one a player plays."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from av.stream import Disposition
from PIL import Image

from tests.media.made.drawing import beeping, four_corners, steady
from tests.media.made.table import MadeFile
from tests.media.made.timelines import BEEPS, SHOWN, SIX, beep, clip
from tests.media.made.writing import Sound, Track

OTHER = Track(steady(((0.0, "magenta"),), 6, 10))
#: Six seconds of a tone that is not in BEEPS, and of nothing.
HUM = Sound(beeping(tuple((second + 0.1, 3000.0) for second in range(5)), 5.9, 48_000))
SILENCE = Sound(beeping((), 5.9, 48_000))
HUM_BEEPS = tuple((second + 0.1, 3000.0) for second in range(5))
HEARD = beep(1.25, 5.25, seconds=5.9)
NONE = Sound(beeping((), 0.0, 48_000))
COVER = Track([(0.0, four_corners())], codec="mjpeg", pix_fmt="yuvj420p")


def _default(track: Any) -> Any:
    return replace(track, setup=lambda stream: setattr(stream, "disposition", Disposition.default))


def _other(track: Any) -> Any:
    return replace(track, setup=lambda stream: setattr(stream, "disposition", Disposition(0)))


def _attached(track: Any) -> Any:
    attached = Disposition.attached_pic
    return replace(track, setup=lambda stream: setattr(stream, "disposition", attached))


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(four_corners()).save(buffer, "JPEG")
    return buffer.getvalue()


def _as_codec(ending: str, *tracks: Any) -> list[Any]:
    """WebM takes other codecs."""
    if ending != "webm":
        return list(tracks)
    codecs = {Track: "libvpx", Sound: "libopus"}
    return [replace(track, codec=codecs[type(track)]) for track in tracks]


def _six(name: str, *tracks: Any, beeps: Any = BEEPS, shown: Any = SHOWN) -> MadeFile:
    tracks = tuple(_as_codec(name.rpartition(".")[2], *tracks))
    return clip(name, *tracks, seconds=6, shown=shown, beeps=beeps, late=0.03)


TRACKS = [
    *(
        _six(f"default-sound.{ending}", _default(SIX), _other(HUM), _default(HEARD))
        for ending in ("mp4", "mov", "mkv", "webm")
    ),
    *(
        _six(f"default-pictures.{ending}", _other(OTHER), _default(SIX), _default(HEARD))
        for ending in ("mp4", "mkv")
    ),
    # No default, or two of them: the first.
    _six("two-defaults.mkv", _default(SIX), _default(HEARD), _default(HUM)),
    _six("no-default.mkv", _other(SIX), _other(HEARD), _other(HUM)),
    _six("two-sounds.ts", SIX, replace(HEARD, codec="mp2"), replace(HUM, codec="mp2")),
    _six("two-sounds.avi", SIX, replace(HEARD, codec="mp2"), replace(HUM, codec="mp2")),
    # A player plays the silent default.
    _six("silent-default.mp4", SIX, _default(SILENCE), _other(HEARD), beeps=None),
    _six("silent-default.mkv", SIX, _default(SILENCE), _other(HEARD), beeps=None),
    _six("default-after-silence.mkv", SIX, _other(SILENCE), _default(HEARD)),
    # A track without a packet is none.
    _six("empty-first-sound.mkv", SIX, NONE, HEARD),
    _six("empty-first-sound.mp4", SIX, NONE, HEARD),
    _six("empty-default-sound.mkv", SIX, _default(NONE), _other(HEARD)),
    _six("empty-first-pictures.mkv", replace(OTHER, pictures=[]), SIX, HEARD),
    # A cover is no film.
    _six("cover-first.mp4", _attached(COVER), SIX, HEARD),
    _six("cover-last.mp4", SIX, HEARD, _attached(COVER)),
    clip("cover.mkv", SIX, HEARD, seconds=6, shown=SHOWN, beeps=BEEPS, late=0.03, cover=_jpeg()),
]
