"""Streams whose size, format, rate or channels change midway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av

from tests.media.made.containers import CODEC
from tests.media.made.drawing import beeping, steady
from tests.media.made.table import Expected, MadeFile
from tests.media.made.timelines import later
from tests.media.made.writing import Sound, Track, write

SHOWN = ((0.0, "red"), (1.2, "green"), (3.0, "blue"), (4.7, "white"))
BEEPS = ((1.25, 1000.0), (4.25, 2000.0))
EXPECTED = Expected(6.0, SHOWN, BEEPS, None, (64, 96), late=0.05)


def _pictures(part: int, **track: Any) -> Track:
    """The first or second three seconds."""
    width, height = track.pop("size", (96, 64))
    colours = (((0.0, "red"), (1.2, "green")), ((0.0, "blue"), (1.7, "white")))[part]
    made = steady(colours, 3, 10, width, height)
    return Track([(time + 3 * part, picture) for time, picture in made], **track)


def _sound(part: int, rate: int = 48_000, channels: int = 1, **sound: Any) -> Sound:
    samples = beeping(((1.25, 1000.0 * (1 + part)),), 3.0 if part == 0 else 2.9, rate, channels)
    return Sound(samples, rate, start=3.0 * part, **sound)


def transport(
    name: str, first: Sequence[Track | Sound], second: Sequence[Track | Sound]
) -> MadeFile:
    """Two parts of a transport stream on one clock, one after the other."""

    def make(path: Path) -> None:
        parts = []
        for number, tracks in enumerate((first, second)):
            part = path.with_name(f"{number}-{path.name}")
            # Times below 0, of what an encoder needs to start, would move a part.
            late = [replace(track, moved=later(10)) for track in tracks]
            write(part, *late, format="mpegts", options={"mpegts_copyts": "1"})
            parts.append(part.read_bytes())
            part.unlink()
        path.write_bytes(b"".join(parts))

    return MadeFile(name, "video", make, EXPECTED)


def spliced(name: str, first: Track, second: Track, refused: str | None = None) -> MadeFile:
    """Packets of two encoders in one track, each with its own parameters in front."""

    def make(path: Path) -> None:
        sounds = Sound(beeping(BEEPS, 5.9, 48_000), codec="flac")
        with av.open(str(path), "w") as container:
            target, heard = first.add(container), sounds.add(container)
            container.start_encoding()
            packets = list(first.packets(target))
            with av.open(str(path.with_name(f"other-{path.name}")), "w") as other:
                stream = second.add(other)
                other.start_encoding()
                packets += list(second.packets(stream))
            for packet in packets:
                packet.stream = target
            for packet in sounds.packets(heard):
                packet.stream = heard
                packets.append(packet)
            packets.sort(key=lambda packet: packet.dts * packet.time_base)
            container.mux(packets)
        path.with_name(f"other-{path.name}").unlink()

    return MadeFile(name, "video", make, EXPECTED, refused)


#: Parameters of H.264 in front of each key frame rather than in the header.
_INLINE = {"x264-params": "repeat-headers=1"}

CHANGING = [
    transport(
        "size.ts",
        [_pictures(0), _sound(0, codec="mp2")],
        [_pictures(1, size=(160, 128)), _sound(1, codec="mp2")],
    ),
    transport(
        "size-of-mpeg2.ts",
        [_pictures(0, codec="mpeg2video"), _sound(0, codec="mp2")],
        [_pictures(1, codec="mpeg2video", size=(64, 48)), _sound(1, codec="mp2")],
    ),
    transport(
        "format.ts",
        [_pictures(0), _sound(0, codec="mp2")],
        [_pictures(1, pix_fmt="yuv444p"), _sound(1, codec="mp2")],
    ),
    transport(
        "depth.ts",
        [_pictures(0, codec="libx265"), _sound(0, codec="mp2")],
        [_pictures(1, codec="libx265", pix_fmt="yuv420p10le"), _sound(1, codec="mp2")],
    ),
    transport(
        "sample-rate.ts",
        [_pictures(0), _sound(0, 48_000, codec="mp2")],
        [_pictures(1), _sound(1, 32_000, codec="mp2")],
    ),
    transport(
        "sample-rate-of-aac.ts",
        [_pictures(0), _sound(0, 44_100)],
        [_pictures(1), _sound(1, 48_000)],
    ),
    transport(
        "channels.ts",
        [_pictures(0), _sound(0, channels=1, codec="mp2")],
        [_pictures(1), _sound(1, channels=2, codec="mp2")],
    ),
    transport(
        "channels-of-aac.ts",
        [_pictures(0), _sound(0, channels=2)],
        [_pictures(1), _sound(1, channels=1)],
    ),
    transport(
        "everything.ts",
        [_pictures(0), _sound(0, 44_100, 2, codec="mp2")],
        [_pictures(1, size=(128, 96), pix_fmt="yuv444p"), _sound(1, 48_000, codec="mp2")],
    ),
    spliced(
        "size.mkv",
        _pictures(0, codec="mjpeg", pix_fmt="yuvj420p"),
        _pictures(1, codec="mjpeg", pix_fmt="yuvj420p", size=(128, 96)),
        CODEC,
    ),
    spliced(
        "size-of-h264.mkv",
        _pictures(0, options=_INLINE),
        _pictures(1, options=_INLINE, size=(128, 96)),
    ),
    spliced(
        "format.mkv",
        _pictures(0, codec="mjpeg", pix_fmt="yuvj420p"),
        _pictures(1, codec="mjpeg", pix_fmt="yuvj444p"),
        CODEC,
    ),
    spliced(
        "size.webm-like.mkv",
        _pictures(0, codec="libvpx-vp9"),
        _pictures(1, codec="libvpx-vp9", size=(160, 96)),
    ),
]
