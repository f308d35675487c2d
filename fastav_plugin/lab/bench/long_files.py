"""Long media files, made in seconds: a few seconds are encoded, and their packets are repeated."""

import heapq
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.media.files import pyav

#: Endings of a film, and of a sound.
FILMS = ("mp4", "mkv", "ts")
SOUNDS = ("mp3", "m4a", "flac", "wav")

#: Of a film: pixels, pictures of each second, and seconds from key frame to key frame.
WIDTH, HEIGHT, RATE, KEYS = 1920, 1080, 30, 5
#: Of every sound, which is stereo: samples of each second, and seconds that are encoded.
SOUND_RATE, LOOP = 48_000, 10

_SOUND_CODECS = {"mp3": "libmp3lame", "m4a": "aac", "flac": "flac"}
_PICTURE_OPTIONS = {"preset": "veryfast", "crf": "24", "sc_threshold": "0", "threads": "2"}
_MARGIN = 64  # pixels by which the texture drifts


def make_scene(path: Path, *, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Encode the few seconds that a film repeats: H.264 from one key frame on, and AAC."""
    with pyav().open(str(path), "w") as file:
        pictures = file.add_stream("libx264", rate=RATE)
        pictures.width, pictures.height, pictures.pix_fmt = width, height, "yuv420p"
        pictures.options = {**_PICTURE_OPTIONS, "g": str(KEYS * RATE)}
        sound = _add_sound(file, "aac")
        for stream, frames in ((pictures, _pictures(width, height)), (sound, _sound_frames(LOOP))):
            for packet in _encoded(stream, frames):
                file.mux(packet)


def make_film(path: Path, scene: Path, seconds: int) -> None:
    """Write a scene again and again; the ending of the path names the film's container."""
    av = pyav()
    with av.open(str(scene)) as few, av.open(str(path), "w") as file:
        found: dict[int, list[Any]] = {stream.index: [] for stream in few.streams}
        for packet in few.demux():
            if packet.size:
                found[packet.stream_index].append(packet)
        pictures, sound = (file.add_stream_from_template(stream) for stream in few.streams)
        looped = [
            _repeated(pictures, found[0], seconds),
            _repeated(sound, found[1][:-2], seconds),  # the last ones end early
        ]
        for _, packet in heapq.merge(*looped, key=lambda item: item[0]):
            file.mux(packet)


def make_sound(path: Path, seconds: int) -> None:
    """Write a sound; the ending of the path names container and codec."""
    if path.suffix == ".wav":
        loop = _samples().tobytes()
        with wave.open(str(path), "wb") as whole:
            whole.setparams((2, 2, SOUND_RATE, 0, "NONE", ""))
            for _ in range(seconds // LOOP):
                whole.writeframes(loop)
        return
    with pyav().open(str(path), "w") as file:
        stream = _add_sound(file, _SOUND_CODECS[path.suffix[1:]])
        if path.suffix == ".flac":  # each of its packets holds its own number
            for frame in _sound_frames(seconds):
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
            return
        packets = _encoded(stream, _sound_frames(LOOP))[:-2]
        for _, packet in _repeated(stream, packets, seconds):
            file.mux(packet)


def _add_sound(file: Any, codec: str) -> Any:
    stream = file.add_stream(codec, rate=SOUND_RATE)
    stream.layout = "stereo"
    return stream


def _encoded(stream: Any, frames: Iterator[Any]) -> list[Any]:
    packets = [packet for frame in frames for packet in stream.encode(frame)]
    found: list[Any] = packets + stream.encode(None)
    return found


def _repeated(stream: Any, packets: list[Any], seconds: int) -> Iterator[tuple[float, Any]]:
    """Decoding time in seconds, and packet: the same ones again and again, one after the other."""
    base = packets[0].time_base
    stamps = sorted(packet.pts for packet in packets)
    each = (stamps[-1] - stamps[0]) // (len(stamps) - 1)
    end = round(seconds / base)
    for shift in range(0, end, each * len(packets)):
        for packet in packets:
            if packet.pts + shift >= end:
                continue
            again = pyav().Packet(bytes(packet))
            again.stream, again.time_base = stream, base
            again.pts, again.dts = packet.pts + shift, packet.dts + shift
            again.duration, again.is_keyframe = each, packet.is_keyframe
            yield float(again.dts * base), again


def _pictures(width: int, height: int) -> Iterator[Any]:
    """The seconds between two key frames: texture of all sizes that drifts, under fine noise."""
    random = np.random.default_rng(0)
    shape = height + _MARGIN, width + _MARGIN
    texture = np.zeros((*shape, 3), np.float32)
    for size in (4, 16, 64):
        coarse = random.normal(size=(-(-shape[0] // size), -(-shape[1] // size), 3))
        texture += coarse.repeat(size, 0).repeat(size, 1)[: shape[0], : shape[1]]
    texture = (texture * 24 + 128).clip(16, 239).astype(np.uint8)
    noise = random.integers(-8, 9, (2 * height, width, 1), np.int8).view(np.uint8)
    for number in range(KEYS * RATE):
        right, down = number % _MARGIN, number // 3 % _MARGIN
        first = int(random.integers(height))
        seen = texture[down : down + height, right : right + width] + noise[first : first + height]
        frame = pyav().VideoFrame.from_ndarray(seen, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, RATE)
        yield frame


def _samples() -> npt.NDArray[np.int16]:
    """Seconds of two gliding tones over noise: [n, 2]."""
    time = np.arange(LOOP * SOUND_RATE) / SOUND_RATE
    noise = np.random.default_rng(0).normal(size=(len(time), 2))
    tones = [np.sin(2 * np.pi * (pitch + 20 * time) * time) for pitch in (220, 330)]
    return ((0.3 * np.stack(tones, 1) + 0.05 * noise) * 2**15).astype(np.int16)


def _sound_frames(seconds: int) -> Iterator[Any]:
    loop = np.ascontiguousarray(_samples().reshape(1, -1))
    for start in range(0, seconds, LOOP):
        frame = pyav().AudioFrame.from_ndarray(loop, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = SOUND_RATE, start * SOUND_RATE
        yield frame
