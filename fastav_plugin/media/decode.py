"""Single frames and stretches of sound out of a media file of any length, decoded as a stream.

No more is held than what is asked for: frames are found by seeking to the key frame before them,
sound is decoded once and forgotten outside the stretches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.installation import install_hint

Frames = npt.NDArray[np.uint8]
Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClipFacts:
    """What a media file holds, found without decoding pictures.

    Attributes:
        frames: video frames; 0 without pictures.
        fps: mean frames per second; 0 where unknown.
        seconds: length of the sound; None without sound.
    """

    frames: int
    fps: float
    seconds: float | None


def pyav() -> Any:
    """The module `av`.

    Raises:
        UnsupportedError: PyAV is not installed; with the command that installs it.
    """
    try:
        import av
    except ImportError as error:
        raise UnsupportedError(
            f"Reading media files needs PyAV. {install_hint('media')}"
        ) from error
    return av


def probe_clip(path: str | Path) -> ClipFacts:
    """Count the frames of a file and measure its sound.

    Raises:
        ConfigError: the file cannot be opened, or holds neither pictures nor sound.
        UnsupportedError: PyAV is not installed.
    """
    with _opened(path) as container:
        fps = 0.0
        pictures, sound = bool(container.streams.video), bool(container.streams.audio)
        if pictures:
            fps = float(container.streams.video[0].average_rate or 0)
    if not pictures and not sound:
        raise ConfigError(f"'{path}' holds neither pictures nor sound.")
    return ClipFacts(count_frames(path), fps, sound_seconds(path))


def count_frames(path: str | Path) -> int:
    """Video frames of a file; 0 without pictures.

    They are decoded only where the container has no index of them.

    Raises:
        ConfigError: the file cannot be opened.
        UnsupportedError: PyAV is not installed.
    """
    with _opened(path) as container:
        if not container.streams.video:
            return 0
    times = _frame_times(path)
    if times is not None:
        return len(times)
    with _opened(path) as container:
        return sum(1 for _ in container.decode(video=0))


def sound_seconds(path: str | Path) -> float | None:
    """Exact length of a file's sound, which is decoded for it; None without sound.

    Raises:
        ConfigError: the file cannot be read.
        UnsupportedError: PyAV is not installed.
    """
    with _opened(path) as container:
        if not container.streams.audio:
            return None
        rate = container.streams.audio[0].rate
        return float(sum(frame.samples for frame in container.decode(audio=0)) / rate)


def stream_frames(path: str | Path, indices: Sequence[int]) -> Iterator[Frames]:
    """Decode some frames of a file, one at a time.

    Args:
        path: the file.
        indices: numbers of the frames, ascending, counted from 0; a number may come twice.

    Yields:
        uint8 [H, W, 3], RGB, one for each index; fewer where the file ends before its index says.

    Raises:
        ConfigError: the file cannot be read.
        UnsupportedError: PyAV is not installed.
    """
    for number, frame in _frames_at(path, sorted(set(indices))):
        picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        yield from [picture] * indices.count(number)


def read_sound(
    path: str | Path,
    stretches: Sequence[tuple[float, float]] | None = None,
    sample_rate: int = 16_000,
    *,
    mix: bool = True,
) -> list[Waveform]:
    """Decode stretches of a file's sound as one channel.

    Args:
        path: the file.
        stretches: start and end of each in seconds; None for the whole sound as one stretch.
        sample_rate: samples per second to resample to.
        mix: whether channels are mixed; else the first one is taken.

    Returns:
        float32 [n] in [-1, 1] for each stretch, cut off at the end of the sound.

    Raises:
        ConfigError: the file cannot be read, or has no sound.
        UnsupportedError: PyAV is not installed.
    """
    spans = [(0.0, np.inf)] if stretches is None else stretches
    firsts = [int(start * sample_rate) for start, _ in spans]
    lasts = [
        first + np.round((stop - start) * sample_rate)
        for first, (start, stop) in zip(firsts, spans, strict=True)
    ]
    pieces: list[list[Waveform]] = [[] for _ in spans]
    position = 0
    for samples in _samples(path, sample_rate, mix):
        for first, last, kept in zip(firsts, lasts, pieces, strict=True):
            start, stop = max(0, first - position), min(len(samples), last - position)
            if start < stop:
                # A copy, or the slice would keep the whole frame alive.
                kept.append(samples[start : int(stop)].copy())
        position += len(samples)
        if all(position >= last for last in lasts):
            break
    return [np.concatenate([np.zeros(0, np.float32), *kept]) for kept in pieces]


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """An open container; what goes wrong with it becomes one error with the file's name."""
    av = pyav()
    try:
        with av.open(str(path)) as container:
            yield container
    except ConfigError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise ConfigError(f"Cannot read the media file '{path}': {error}") from error


#: Containers whose index has the exact time of every frame; in others a seek may miss.
_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
#: Frames over which a stream is decoded rather than searched, and compared with its index first.
_FAR = 64


class _Lost(Exception):
    """Frames do not come out in the order of the index."""


def _frame_times(path: str | Path) -> list[int] | None:
    """Presentation time of every frame in order, in the stream's time base; None if unknown."""
    with _opened(path) as container:
        if not container.streams.video:
            raise ConfigError(f"'{path}' holds no pictures. Give a file with a video stream.")
        if container.format.name not in _INDEXED:
            return None
        packets = (p for p in container.demux(video=0) if p.size and not p.is_discard)
        times = [p.pts for p in packets]
    return None if None in times or len(set(times)) < len(times) else sorted(times)


def _frames_at(path: str | Path, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Each wanted frame with its number; ascending."""
    times = _frame_times(path)
    found = 0
    if times is not None:
        try:
            for pair in _sought(path, times, [n for n in wanted if n < len(times)]):
                yield pair
                found += 1
            return
        except _Lost:
            pass
    rest = set(wanted[found:])
    with _opened(path) as container:
        for pair in enumerate(container.decode(video=0)):
            if pair[0] in rest:
                yield pair


def _sought(
    path: str | Path, times: Sequence[int], wanted: Sequence[int]
) -> Iterator[tuple[int, Any]]:
    """The wanted frames by seeking to the key frame before them.

    Raises:
        _Lost: what comes out is not what the index says.
    """
    numbers = {time: number for number, time in enumerate(times)}
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        decoder = container.decode(video=0)
        reached = -1
        for number in wanted:
            sought = number - reached > _FAR
            if sought and reached < 0:
                # A look at the beginning tells whether the index can be trusted.
                for place, frame in zip(range(_FAR // 4), decoder, strict=False):
                    if numbers.get(frame.pts) != place:
                        raise _Lost
            if sought:
                container.seek(times[number], stream=stream, backward=True)
                decoder = container.decode(video=0)
            for frame in decoder:
                place = numbers.get(frame.pts, -1)
                expected = reached + 1 if not sought else place
                if place != expected or not 0 <= place <= number:
                    raise _Lost
                reached, sought = place, False
                if reached == number:
                    yield number, frame
                    break
            else:
                return


def _samples(path: str | Path, sample_rate: int, mix: bool) -> Iterator[Waveform]:
    with _opened(path) as container:
        import av

        if not container.streams.audio:
            raise ConfigError(f"'{path}' holds no sound. Give a file with an audio stream.")
        layout = "mono" if mix else None
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=sample_rate)
        for frame in container.decode(audio=0):
            yield from (piece.to_ndarray()[0] for piece in resampler.resample(frame))
        yield from (piece.to_ndarray()[0] for piece in resampler.resample(None))
