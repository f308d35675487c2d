"""The sound of media files as one channel, decoded as a stream."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.files import opened, pyav

Waveform = npt.NDArray[np.float32]

#: Samples per second of every sound that is read.
SAMPLE_RATE = 16_000


def sound_seconds(path: str | Path) -> float | None:
    """Exact length of a file's sound, which is decoded for it; None without sound."""
    with opened(path) as container:
        if not container.streams.audio:
            return None
        rate = container.streams.audio[0].rate
        return float(sum(frame.samples for frame in container.decode(audio=0)) / rate)


def read_sound(
    path: str | Path,
    stretches: Sequence[tuple[float, float]] | None = None,
    *,
    mix: bool = True,
) -> list[Waveform]:
    """Decode stretches of a file's sound.

    Args:
        path: the file.
        stretches: start and end of each in seconds; None for the whole sound as one stretch.
        mix: whether channels are mixed; else the first one is taken.

    Returns:
        float32 [n] in [-1, 1] at 16 kHz for each stretch, cut off at the end of the sound.

    Raises:
        ConfigError: also if the file has no sound.
    """
    spans = [(0.0, np.inf)] if stretches is None else stretches
    firsts = [int(start * SAMPLE_RATE) for start, _ in spans]
    lasts = [
        first + np.round((stop - start) * SAMPLE_RATE)
        for first, (start, stop) in zip(firsts, spans, strict=True)
    ]
    pieces: list[list[Waveform]] = [[] for _ in spans]
    position = 0
    with opened(path) as container:
        if not container.streams.audio:
            raise ConfigError(f"'{path}' holds no sound. Give a file with an audio stream.")
        for samples in decode_sound(container, mix=mix):
            for first, last, kept in zip(firsts, lasts, pieces, strict=True):
                start, stop = max(0, first - position), min(len(samples), last - position)
                if start < stop:
                    # A copy, or the slice would keep the whole frame in memory.
                    kept.append(samples[start : int(stop)].copy())
            position += len(samples)
            if all(position >= last for last in lasts):
                break
    return [np.concatenate([np.zeros(0, np.float32), *kept]) for kept in pieces]


def decode_sound(
    container: Any, *, mix: bool = True, check: Callable[[Any], None] | None = None
) -> Iterator[Waveform]:
    """Decode the sound of an open container: float32 [n] in [-1, 1] at 16 kHz each.

    Channels are mixed, or the first one is taken. `check` is called with each decoded frame of
    PyAV before it is resampled.
    """
    layout = "mono" if mix else None
    resampler = pyav().AudioResampler(format="fltp", layout=layout, rate=SAMPLE_RATE)
    for frame in container.decode(audio=0):
        if check is not None:
            check(frame)
        yield from (piece.to_ndarray()[0] for piece in resampler.resample(frame))
    yield from (piece.to_ndarray()[0] for piece in resampler.resample(None))


def fit_length(waveform: Waveform | None, length: int) -> Waveform:
    """A sound cut off, or followed by silence, so that it has `length` samples."""
    whole = np.zeros(length, np.float32)
    if waveform is not None:
        whole[: len(waveform)] = waveform[:length]
    return whole
