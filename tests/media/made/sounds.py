"""Two beeps in every format of sound alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.media.made.containers import BEEPS, CONTAINER, sound
from tests.media.made.drawing import beeping, four_corners
from tests.media.made.table import Expected, MadeFile
from tests.media.made.writing import Sound, Track, write


def standard(
    name: str,
    codec: str,
    *,
    rate: int = 48_000,
    channels: int = 1,
    layout: str = "",
    late: float = 0.01,
    seconds: float = 3.8,
    format: str | None = None,
    refused: str | None = None,
    options: Mapping[str, str] | None = None,
) -> MadeFile:
    """The sound of `containers` alone."""

    def make(path: Path) -> None:
        track = Sound(sound(rate, channels), rate, codec, options=options or {}, layout=layout)
        write(path, track, format=format)

    return MadeFile(name, "audio", make, Expected(seconds, beeps=BEEPS, late=late), refused)


def covered(name: str, codec: str, refused: str | None = None) -> MadeFile:
    """The sound of `containers` with a picture of its cover."""

    def make(path: Path) -> None:
        cover = Track([(0.0, four_corners())], codec="mjpeg", pix_fmt="yuvj420p", setup=_attached)
        format = "mp4" if path.suffix == ".m4a" else None
        write(path, Sound(sound(), codec=codec), cover, format=format)

    return MadeFile(name, "audio", make, Expected(3.8, beeps=BEEPS, late=0.03), refused)


def _attached(stream: Any) -> None:
    stream.disposition = 1024


def _changed(name: str, change: Callable[[bytes], bytes], **expected: Any) -> MadeFile:
    def make(path: Path) -> None:
        write(path, Sound(sound(), codec="pcm_s16le"), format="wav")
        path.write_bytes(change(path.read_bytes()))

    return MadeFile(name, "audio", make, Expected(3.8, beeps=BEEPS, **expected))


def _endless(data: bytes) -> bytes:
    """As a program writes it that does not know the length yet."""
    place = data.index(b"data") + 4
    return data[:4] + b"\xff" * 4 + data[8:place] + b"\xff" * 4 + data[place + 4 :]


def _left(path: Path) -> None:
    """One beep in each channel, of 6: the third, the centre, holds the second beep."""
    first, second = (beeping((beep,), 3.8, 48_000)[0] for beep in BEEPS)
    samples = np.zeros((6, len(first)), np.float32)
    samples[0], samples[2] = first, second
    write(path, Sound(samples, codec="flac", layout="5.1"))


def joined(name: str, codec: str, parts: tuple[tuple[int, int], ...], length: float) -> MadeFile:
    """Files one after the other in one, each of its own sample rate and channels.

    Args:
        name: of the file.
        codec: of all parts.
        parts: sample rate and channels of each.
        length: seconds from one beginning to the next.
    """

    def make(path: Path) -> None:
        whole = b""
        for rate, channels in parts:
            write(path, Sound(sound(rate, channels), rate, codec))
            whole += path.read_bytes()
        path.write_bytes(whole)

    beeps = (*BEEPS, *((start + length, frequency) for start, frequency in BEEPS))
    return MadeFile(name, "audio", make, Expected(3.8 + length, beeps=beeps, late=0.05))


def _ordinary_mp3(path: Path) -> None:
    """With a tag of a player in front and a cover of some size."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    cover = io.BytesIO()
    Image.fromarray(noise).save(cover, "PNG")
    write(path, Sound(sound(44_100), 44_100, "libmp3lame"))
    picture = b"\x00image/png\x00\x03\x00" + cover.getvalue()
    frame = b"APIC" + len(picture).to_bytes(4, "big") + b"\0\0" + picture
    size = bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    data = path.read_bytes()
    assert data[:3] == b"ID3"
    old = 10 + int("".join(f"{byte:07b}" for byte in data[6:10]), 2)
    path.write_bytes(b"ID3\x03\0\0" + size + frame + data[old:])


SOUNDS = [
    standard("pcm16.wav", "pcm_s16le", rate=16_000),
    standard("pcm24-stereo-44100.wav", "pcm_s24le", rate=44_100, channels=2),
    standard("float.wav", "pcm_f32le"),
    standard("8-bit-8000.wav", "pcm_u8", rate=8_000),
    standard("a-law.wav", "pcm_alaw", rate=8_000),
    standard("16-bit.flac", "flac"),
    standard("96000.flac", "flac", rate=96_000),
    standard("cbr.mp3", "libmp3lame", late=0.025),
    standard("16000.mp3", "libmp3lame", rate=16_000, late=0.025),
    standard("aac.m4a", "aac", format="mp4"),
    standard("22050.m4a", "aac", rate=22_050, format="mp4"),
    standard("alac.m4a", "alac", format="mp4"),
    standard("vorbis.ogg", "vorbis", channels=2),
    standard("opus.ogg", "libopus"),
    standard("opus-stereo.opus", "libopus", channels=2),
    # Nothing in it tells how much of its beginning is the encoder's.
    standard("adts.aac", "aac", late=0.03, seconds=3.84),
    standard("opus.webm", "libopus"),
    standard("flac.mka", "flac", format="matroska"),
    standard("mp2.ts", "mp2", late=0.03),
    standard("pcm.aiff", "pcm_s16be", refused=CONTAINER),
    standard("pcm.au", "pcm_s16be", refused=CONTAINER),
    standard("ac3.ac3", "ac3", late=0.03, refused=CONTAINER),
    covered("cover.mp3", "libmp3lame"),
    covered("cover.flac", "flac"),
    covered("cover.m4a", "aac"),
    _changed("unknown-length.wav", _endless),
    MadeFile("six-channels.flac", "audio", _left, Expected(3.8, beeps=BEEPS)),
    MadeFile("tagged.mp3", "audio", _ordinary_mp3, Expected(3.8, beeps=BEEPS, late=0.025)),
    joined("chained.ogg", "vorbis", ((48_000, 2), (48_000, 2)), 3.82),
    joined("chained.opus", "libopus", ((48_000, 1), (48_000, 1)), 3.8),
    joined("rate-changes.mp3", "libmp3lame", ((48_000, 1), (44_100, 1)), 3.86),
    joined("channels-change.mp3", "libmp3lame", ((44_100, 1), (44_100, 2)), 3.86),
    joined("channels-change.aac", "aac", ((48_000, 1), (48_000, 2)), 3.84),
]
