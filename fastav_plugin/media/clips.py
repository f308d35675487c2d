"""Pictures at a frame rate, and sound at 16 kHz, of any file that PyAV can open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.media.decode import pyav

#: Samples per second of what is read.
SAMPLE_RATE = 16_000
#: Pictures per second where nobody says otherwise.
FRAMES_PER_SECOND = 2


def read_clip(
    path: str | Path, frames_per_second: float = FRAMES_PER_SECOND
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Read pictures at a frame rate, and the sound, of any file that PyAV can open.

    Args:
        path: the file.
        frames_per_second: how many frames to take of each second.

    Returns:
        frames, uint8 [T, H, W, 3], RGB, with T even (the last one repeated where needed); and the
        waveform, float32 [n] at 16 kHz, one channel, as long as the pictures, silence where the
        file has no sound.

    Raises:
        ValueError: if the file has no pictures.
    """
    frames = _read_frames(path, frames_per_second)
    waveform = read_waveform(path)
    length = round(len(frames) / frames_per_second * SAMPLE_RATE)
    whole = np.zeros(length, np.float32)
    whole[: len(waveform)] = waveform[:length]
    return frames, whole


def _read_frames(path: str | Path, frames_per_second: float) -> npt.NDArray[np.uint8]:
    av = pyav()

    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path} holds no pictures. Give a file with a video stream.")
        frames = list(sampled_frames(container, frames_per_second))
    if not frames:
        raise ValueError(f"No frame of {path} could be decoded. Try to re-encode the file.")
    if len(frames) % 2:
        frames.append(frames[-1])
    return np.stack(frames)


def sampled_frames(container: Any, frames_per_second: float) -> Iterator[npt.NDArray[np.uint8]]:
    """Decode the pictures of an open container at a frame rate.

    Args:
        container: of PyAV, with a video stream.
        frames_per_second: how many frames to take of each second.

    Yields:
        uint8 [H, W, 3], RGB.
    """
    start: float | None = None
    taken = 0
    for frame in container.decode(video=0):
        time = float(frame.time or 0.0)
        start = time if start is None else start
        # A frame stands for every moment from its own time on.
        if time - start >= taken / frames_per_second - 1e-3:
            taken += 1
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def read_waveform(path: str | Path) -> npt.NDArray[np.float32]:
    """Read the sound of any file that PyAV can open.

    Args:
        path: the file.

    Returns:
        float32 [n] at 16 kHz, one channel; n is 0 where the file has no sound.
    """
    av = pyav()

    with av.open(str(path)) as container:
        pieces = list(resampled_sound(container)) if container.streams.audio else []
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def resampled_sound(
    container: Any, check: Callable[[Any], None] | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """Decode the sound of an open container.

    Args:
        container: of PyAV, with an audio stream.
        check: called with each decoded frame of PyAV before it is resampled.

    Yields:
        float32 [n] at 16 kHz, one channel.
    """
    av = pyav()

    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    for frame in container.decode(audio=0):
        if check is not None:
            check(frame)
        yield from (piece.to_ndarray()[0] for piece in resampler.resample(frame))
    yield from (piece.to_ndarray()[0] for piece in resampler.resample(None))
