"""Clips as recorders, cameras and editors write them that fit no other table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from tests.media.made.containers import CODEC
from tests.media.made.drawing import changes, plain, steady
from tests.media.made.pictures import REFUSED
from tests.media.made.table import Expected, MadeFile
from tests.media.made.timelines import BEEPS, SHOWN, SIX, SIX_BEEPS, SLIDES, beep, clip
from tests.media.made.writing import Sound, Track

HEARD = beep(1.25, 5.25, seconds=5.9)
OPUS = replace(HEARD, codec="libopus")
VP8 = replace(SIX, codec="libvpx")
#: The beeps in front on the left, silence in the other five channels.
SURROUND = Sound(np.pad(HEARD.samples, ((0, 5), (0, 0))), codec="libopus", layout="5.1")
GROUPS = replace(SIX, options={"g": "10"})

#: Changes that no sampled moment falls on.
BETWEEN = ((0.0, "red"), (0.9, "green"), (1.9, "blue"), (3.9, "white"), (4.9, "yellow"))


def _from_key_frame(seconds: float) -> Callable[[float], float | None]:
    return lambda time: time if time >= seconds else None


def _animation(name: str, starts: tuple[float, ...], seconds: float, **options: Any) -> MadeFile:
    """Pictures of which the delays are written as they are given, in milliseconds."""
    colours = ("red", "green", "blue", "white", "yellow")[: len(starts)]

    def make(path: Path) -> None:
        pictures = [Image.fromarray(plain(colour)) for colour in colours]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)

    shown = tuple(zip(starts, colours, strict=True))
    refused = REFUSED if name.endswith(".avif") else None
    return MadeFile(name, "video", make, Expected(seconds, shown, size=(64, 96)), refused)


def _transparent(path: Path) -> None:
    """Red above, and below nothing, through which the background is seen."""
    rgba = np.zeros((64, 96, 4), np.uint8)
    rgba[:32] = (220, 30, 30, 255)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("png", rate=2)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgba"
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


ODDITIES = [
    # Of a browser's recorder: no length, no index.
    clip("live.webm", VP8, OPUS, muxing={"live": "1"}, late=0.03, **SIX_BEEPS),
    clip("live.mkv", SIX, HEARD, muxing={"live": "1"}, late=0.03, **SIX_BEEPS),
    clip(
        "live-slides.webm",
        replace(VP8, pictures=changes(SLIDES), fine=True, last=1.8),
        replace(beep(1.25, 5.25, seconds=7.9), codec="libopus"),
        muxing={"live": "1"},
        seconds=7.94,
        shown=SLIDES,
        beeps=BEEPS,
        late=0.03,
    ),
    # Of a broadcast, from the middle of a group of pictures on.
    clip(
        "starts-within-a-group.ts",
        replace(GROUPS, pictures=steady(BETWEEN, 6, 10), moved=_from_key_frame(0.45)),
        replace(HEARD, codec="mp2"),
        late=0.03,
        seconds=6.0,
        beeps=BEEPS,
        shown=((0.0, "green"), *BETWEEN[2:]),
    ),
    clip(
        "high-rate.mp4",
        Track(steady(SHOWN, 6, 120), last=1 / 120, rate=120),
        HEARD,
        late=0.03,
        **SIX_BEEPS,
    ),
    clip(
        "one-picture.mp4",
        Track(changes(((0.0, "cyan"),)), last=1, rate=1),
        seconds=1,
        shown=((0.0, "cyan"),),
    ),
    clip(
        "negative-offsets.mp4",
        replace(SIX, options={"preset": "medium"}),
        HEARD,
        muxing={"movflags": "negative_cts_offsets"},
        late=0.03,
        **SIX_BEEPS,
    ),
    clip(
        "fragments-with-b-frames.mp4",
        replace(SIX, options={"preset": "medium", "g": "10"}),
        HEARD,
        muxing={"movflags": "frag_keyframe+delay_moov"},
        late=0.03,
        **SIX_BEEPS,
    ),
    clip(
        "raw.avi",
        replace(SIX, codec="rawvideo", pix_fmt="bgr24"),
        replace(HEARD, codec="pcm_s16le"),
        refused=CODEC,
        **SIX_BEEPS,
    ),
    clip(
        "palette.mov",
        replace(SIX, codec="qtrle", pix_fmt="rgb24"),
        replace(HEARD, codec="pcm_s16le"),
        refused=CODEC,
        **SIX_BEEPS,
    ),
    clip(
        "huffyuv.avi",
        replace(SIX, codec="huffyuv", pix_fmt="yuv422p"),
        replace(HEARD, codec="adpcm_ima_wav"),
        refused=CODEC,
        late=0.03,
        seconds=6,
        shown=SHOWN,
        beeps=BEEPS,
    ),
    clip("six-channels.mkv", SIX, SURROUND, late=0.03, **SIX_BEEPS),
    MadeFile(
        "transparent.mov",
        "video",
        _transparent,
        Expected(2.0, size=(64, 96), corners=("red", "red", "paper", "paper"), tolerance=2),
        CODEC,
    ),
    # A delay of 10 ms and less is a tenth of a second; so is none.
    _animation("no-delay.gif", (0.0, 0.1, 0.2, 0.3, 0.4), 0.5, duration=0),
    _animation("short-delay.gif", (0.0, 0.1, 0.2, 0.3, 0.4), 0.5, duration=10),
    _animation("delays.gif", (0.0, 0.7, 1.2, 3.2), 4.2, duration=[700, 500, 2000, 1000], loop=3),
    _animation("delays.png", (0.0, 0.7, 1.2, 3.2), 4.2, duration=[700, 500, 2000, 1000]),
    _animation("delays.avif", (0.0, 0.7, 1.2, 3.2), 4.2, duration=[700, 500, 2000, 1000]),
    _animation("hidden-first.png", (0.0, 0.7), 1.2, duration=[700, 500]),
]
