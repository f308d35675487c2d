"""What VideoLLaMA2 takes of a file: spread frames, and stretches of the sound."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform, read_sound, sound_seconds
from fastav_plugin.media.video import Frames, count_frames, stream_frames
from fastav_plugin.model_overrides.own_models.waveforms import check_waveform

#: Of a clip's sound, so many stretches of so many seconds are taken.
STRETCHES, STRETCH_SECONDS = 8, 2.0


def frame_indices(total: int, count: int) -> list[int]:
    """The middles of `count` equal parts of a clip of `total` frames.

    Python's round goes to the even neighbour of a half; the small addend avoids halves.
    """
    part = (total - 1) / count
    return [round((part * i + part * (i + 1)) / 2 + 1e-6) for i in range(count)]


def pick_frames(source: Any, count: int) -> Iterable[Frames]:
    """Spread frames of a file, or of frames in memory.

    Args:
        source: a path, or uint8 [T, H, W, 3] or [T, 3, H, W] (array or tensor).
        count: frames to take.

    Returns:
        At most `count` of uint8 [H, W, 3].

    Raises:
        ConfigError: a file that cannot be read or has no frames, or no frames of pictures.
    """
    if isinstance(source, (str, Path)):
        total = count_frames(source)
        if total == 0:
            raise ConfigError(f"'{source}' holds no pictures. Pass a sound as `audio`.")
        return stream_frames(source, frame_indices(total, count))
    frames = np.asarray(source)
    if frames.ndim != 4 or 3 not in (frames.shape[1], frames.shape[3]) or not len(frames):
        raise ConfigError(
            "A video must be a path or frames [T, H, W, 3] or [T, 3, H, W], got "
            f"{_kind(source)} of shape {list(frames.shape)}."
        )
    if frames.shape[3] != 3:
        frames = frames.transpose(0, 2, 3, 1)
    return [frames[index] for index in frame_indices(len(frames), count)]


def load_clip_audio(source: Any) -> Waveform | None:
    """The sound that goes with a clip: eight stretches of two seconds, one after the other.

    Args:
        source: a path, or float [n] at 16 kHz.

    Returns:
        float32 [n], at most 16 seconds; None where the file has no sound.
    """
    if isinstance(source, (str, Path)):
        seconds = sound_seconds(source)
        if not seconds:
            return None
        return _as_16_bit(np.concatenate(read_sound(source, _stretches(seconds))))
    sound = check_waveform(source)
    spans = _stretches(len(sound) / SAMPLE_RATE)
    samples = [slice(int(a * SAMPLE_RATE), int(a * SAMPLE_RATE) + 32_000) for a, _ in spans]
    return np.concatenate([sound[span] for span in samples]) if len(sound) else None


def load_audio(source: Any, seconds: float) -> Waveform:
    """A sound without pictures: its beginning.

    The authors take a random stretch of a longer sound; this takes the first one.

    Args:
        source: a path, or float [n] at 16 kHz.
        seconds: most that is taken.

    Raises:
        ConfigError: no sound in it.
    """
    if isinstance(source, (str, Path)):
        (sound,) = read_sound(source, [(0.0, seconds)], mix=False)
    else:
        sound = check_waveform(source)[: round(seconds * SAMPLE_RATE)]
    if not len(sound):
        raise ConfigError(f"{_kind(source)} holds no sound.")
    return sound


def _stretches(seconds: float) -> list[tuple[float, float]]:
    starts = np.linspace(0.0, max(0.0, seconds - STRETCH_SECONDS), STRETCHES)
    return [(float(start), float(start) + STRETCH_SECONDS) for start in starts]


def _as_16_bit(sound: Waveform) -> Waveform:
    """Samples on the steps of 16 bits, on which near silence is silence."""
    return (np.round(sound * 2**15).clip(-(2**15), 2**15 - 1) / 2**15).astype(np.float32)


def _kind(source: Any) -> str:
    return f"'{source}'" if isinstance(source, (str, Path)) else type(source).__name__
