"""One clip in every container and codec: five colours and two beeps in four seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.media.made.drawing import Samples, beeping, plain, steady
from tests.media.made.table import Expected, MadeFile
from tests.media.made.writing import Sound, Track, write

SHOWN = ((0.0, "red"), (0.8, "green"), (1.7, "blue"), (2.6, "white"), (3.3, "yellow"))
BEEPS = ((1.25, 1000.0), (2.75, 2000.0))
SECONDS = 4.0
#: Shorter than the pictures, so that no codec's last packet makes the clip longer.
SOUND_SECONDS = 3.8
EXPECTED = Expected(seconds=SECONDS, shown=SHOWN, beeps=BEEPS, size=(64, 96))

#: What a server says of codecs and containers that it does not read.
CODEC = "its codec '.*' is none of"
CONTAINER = "cannot be decoded|cannot be read"


def sound(rate: int = 48_000, channels: int = 1) -> Samples:
    """The two beeps."""
    return beeping(BEEPS, SOUND_SECONDS, rate, channels)


def standard(
    name: str,
    codec: str,
    sound_codec: str | None,
    *,
    fps: int = 10,
    sound_rate: int = 48_000,
    channels: int = 1,
    refused: str | None = None,
    format: str | None = None,
    muxing: Mapping[str, str] | None = None,
    expected: Mapping[str, Any] | None = None,
    **track: Any,
) -> MadeFile:
    """The clip of this module with a codec each for pictures and sound."""

    def make(path: Path) -> None:
        pictures = steady(SHOWN, SECONDS, fps)
        tracks: list[Track | Sound] = [
            Track(pictures, codec=codec, rate=fps, last=1 / fps, **track)
        ]
        if sound_codec is not None:
            samples = sound(sound_rate, channels)
            tracks.append(Sound(samples, rate=sound_rate, codec=sound_codec))
        write(path, *tracks, format=format, options=muxing)

    found = replace(EXPECTED, beeps=BEEPS if sound_codec else None)
    return MadeFile(name, "video", make, replace(found, **(expected or {})), refused)


def animation(name: str) -> MadeFile:
    """The colours as an animated picture, each with its own duration."""

    def make(path: Path) -> None:
        pictures = [Image.fromarray(plain(colour)) for _, colour in SHOWN]
        lasts = np.diff([*(start for start, _ in SHOWN), SECONDS]) * 1000
        options: dict[str, Any] = {"duration": [round(last) for last in lasts], "loop": 0}
        if path.suffix == ".webp":
            options["lossless"] = True
        pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)

    return MadeFile(name, "video", make, replace(EXPECTED, beeps=None))


FULL: dict[str, Any] = {"pix_fmt": "yuvj420p", "full_range": True}
BETTER = {"preset": "medium"}
#: MPEG's audio codecs begin with what the decoder needs to start; not every container says so.
LATE = {"late": 0.03}

CONTAINERS = [
    standard("h264-aac.mp4", "libx264", "aac", options=BETTER),
    standard(
        "open-gop.mp4",
        "libx264",
        "aac",
        options=BETTER
        | {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"},
    ),
    standard("faststart.mp4", "libx264", "aac", muxing={"movflags": "faststart"}),
    standard(
        "fragments.mp4",
        "libx264",
        "aac",
        muxing={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
        expected=LATE,
        options={"g": "10"},
    ),
    standard("hevc-aac.mp4", "libx265", "aac"),
    standard("av1-opus.mp4", "libsvtav1", "libopus"),
    standard("mpeg4-mp3.mp4", "mpeg4", "libmp3lame", options={"bf": "2"}, expected=LATE),
    standard("h264-alac.mp4", "libx264", "alac"),
    standard("h264-aac.3gp", "libx264", "aac", format="3gp"),
    standard(
        "prores-pcm.mov",
        "prores_ks",
        "pcm_s16le",
        pix_fmt="yuv422p10le",
        refused=CODEC,
    ),
    standard("h264-pcm.mov", "libx264", "pcm_s24le", channels=2),
    standard("mjpeg-pcm.mov", "mjpeg", "pcm_s16be", refused=CODEC, **FULL),
    standard("h264-flac.mkv", "libx264", "flac", options=BETTER),
    standard("hevc-opus.mkv", "libx265", "libopus"),
    standard("ffv1-pcm.mkv", "ffv1", "pcm_s16le", refused=CODEC, expected={"tolerance": 6}),
    standard("vp8-vorbis.webm", "libvpx", "vorbis", channels=2),
    standard("vp9-opus.webm", "libvpx-vp9", "libopus"),
    standard("av1-opus.webm", "libsvtav1", "libopus", channels=2),
    standard("h264-aac.ts", "libx264", "aac", options=BETTER, expected=LATE),
    standard("hevc-ac3.ts", "libx265", "ac3", expected=LATE),
    standard("mpeg2-mp2.ts", "mpeg2video", "mp2", fps=25, expected=LATE),
    standard("h264-aac.m2ts", "libx264", "aac", format="mpegts", expected=LATE),
    # One of its pictures is empty: nothing new is shown, and the clip is longer by one.
    standard("mpeg4-mp3.avi", "mpeg4", "libmp3lame", expected={"late": 0.06, "seconds": 4.1}),
    standard("h264-b-frames-pcm.avi", "libx264", "pcm_s16le", options=BETTER),
    standard("mjpeg-pcm.avi", "mjpeg", "pcm_s16le", refused=CODEC, **FULL),
    standard("mpeg2-mp2.mpg", "mpeg2video", "mp2", fps=25, refused=CONTAINER, expected=LATE),
    standard("mpeg1-mp2.mpg", "mpeg1video", "mp2", fps=25, refused=CONTAINER, expected=LATE),
    standard("h264-aac.flv", "libx264", "aac", refused=CONTAINER, expected=LATE),
    standard(
        "flv1-mp3.flv",
        "flv",
        "libmp3lame",
        sound_rate=44_100,
        refused=CONTAINER,
        expected={"late": 0.06},
    ),
    standard(
        "wmv2-wma2.wmv",
        "wmv2",
        "wmav2",
        sound_rate=44_100,
        format="asf",
        refused=CONTAINER,
        expected={"late": 0.06},
    ),
    # Nothing in it says when a picture is shown but the codec's own rate.
    standard("bare.h264", "libx264", None, fps=25, format="h264", refused=CONTAINER),
    animation("animated.gif"),
    animation("animated.png"),
    animation("animated.webp"),
]
