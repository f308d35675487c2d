"""What VideoLLaMA2 takes of a file: spread frames, and stretches of the sound."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.clips import ClipFile
from fastav_plugin.media.files import Source
from fastav_plugin.media.pictures import read_image
from fastav_plugin.media.presentation import Frames
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform
from fastav_plugin.model_overrides.own_models.waveforms import check_waveform

#: Of a clip's sound, so many stretches of so many seconds are taken.
STRETCHES, STRETCH_SECONDS = 8, 2.0


def frame_indices(total: int, count: int) -> list[int]:
    """The middles of `count` equal parts of a clip of `total` frames.

    Python's round goes to the even neighbour of a half; the small addend avoids halves.
    """
    part = (total - 1) / count
    return [round((part * i + part * (i + 1)) / 2 + 1e-6) for i in range(count)]


def load_picture(source: Any) -> Any:
    """A picture: uint8 [H, W, 3] of a file; what is in memory stays as it is."""
    return read_image(source) if isinstance(source, (str, Path, Source)) else source


def pick_frames(source: Any, count: int) -> Iterable[Frames]:
    """Spread frames of a file, or of frames in memory.

    Of a file whose pictures follow irregularly, what is shown at even times is counted.

    Args:
        source: a path or Source, or uint8 [T, H, W, 3] or [T, 3, H, W] (array or tensor).
        count: frames to take.

    Returns:
        At most `count` of uint8 [H, W, 3].

    Raises:
        ConfigError: a file that cannot be read or has no frames, or no frames of pictures.
    """
    if isinstance(source, (str, Path, Source)):
        clip = ClipFile(source)
        if not clip.has_pictures:
            raise ConfigError(f"{clip.source.name} holds no pictures. Pass a sound as `audio`.")
        return clip.frames(frame_indices(clip.count, count))
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
    if isinstance(source, (str, Path, Source)):
        clip = ClipFile(source)
        if not clip.has_sound:
            return None
        return _as_16_bit(np.concatenate(clip.sound(_stretches(clip.sound_seconds))))
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
    if isinstance(source, (str, Path, Source)):
        (sound,) = ClipFile(source).sound([(0.0, seconds)], mix=False)
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
    if isinstance(source, (str, Path, Source)):
        return Source.of(source).name
    return type(source).__name__
