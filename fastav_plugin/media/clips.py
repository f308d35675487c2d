"""A clip of a file: pictures at a frame rate, and the sound that goes with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.files import opened
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform, fit_length, read_sound, sound_seconds
from fastav_plugin.media.video import (
    FRAMES_PER_SECOND,
    Frames,
    count_frames,
    frame_seconds,
    sample,
    spread,
    stream_frames,
)


@dataclass(frozen=True)
class ClipFacts:
    """What a media file holds, found without decoding pictures."""

    frames: int  # 0 without pictures
    fps: float  # mean frames per second; 0 where unknown
    seconds: float | None  # of the sound; None without


@dataclass(frozen=True)
class Video:
    """Pictures of a clip, and its sound.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB; T is even, the last one repeated where needed.
        fps: frames per second of `frames`.
        waveform: float32 [n] at 16 kHz, as long as the clip; None without sound or where silent.
    """

    frames: Frames
    fps: float
    waveform: Waveform | None = None

    @classmethod
    def of(cls, frames: Sequence[Frames], fps: float, whole: int, sound: Waveform | None) -> Self:
        """Frames, uint8 [H, W, 3] each, spread evenly over a clip, with its sound as long as it.

        `whole` and `fps` are the clip's frames and their rate before that choice; `sound` is of
        any length, float32 [n] at 16 kHz.
        """
        if sound is not None:
            sound = fit_length(sound, round(whole / fps * SAMPLE_RATE))
            sound = sound if sound.any() else None
        return cls(np.stack(frames), fps * len(frames) / whole, sound)


def probe_clip(path: str | Path) -> ClipFacts:
    """Count the frames of a file and measure its sound.

    Raises:
        ConfigError: also if it holds neither pictures nor sound.
    """
    with opened(path) as container:
        videos = container.streams.video
        if not videos and not container.streams.audio:
            raise ConfigError(f"'{path}' holds neither pictures nor sound.")
        fps = float(videos[0].average_rate or 0) if videos else 0.0
    return ClipFacts(count_frames(path), fps, sound_seconds(path))


def read_clip(
    path: str | Path, frames_per_second: float = FRAMES_PER_SECOND
) -> tuple[Frames, Waveform]:
    """Read pictures at a frame rate, and the sound, of any file that PyAV can open.

    Args:
        path: the file.
        frames_per_second: how many frames to take of each second.

    Returns:
        frames, uint8 [T, H, W, 3], RGB, with T even (the last one repeated where needed); and the
        waveform, float32 [n] at 16 kHz, one channel, as long as the pictures, silence where the
        file has no sound.

    Raises:
        ConfigError: the file cannot be read or has no pictures.
        UnsupportedError: PyAV is not installed.
    """
    video = read_video(path, frames_per_second)
    length = round(len(video.frames) / frames_per_second * SAMPLE_RATE)
    return video.frames, fit_length(video.waveform, length)


def read_video(path: str | Path, fps: float, max_frames: int | None = None) -> Video:
    """Read pictures at a frame rate, and the sound; only the frames returned are held in memory.

    There are at most `max_frames`, spread evenly over the clip.

    Raises:
        ConfigError: also if the file has no pictures.
    """
    times = frame_seconds(path)
    taken = [number for _, number in sample(zip(times, range(len(times)), strict=True), fps)]
    whole = len(spread(len(taken)))
    chosen = spread(len(taken), max_frames)
    frames = list(stream_frames(path, [taken[index] for index in chosen]))
    if not frames:
        raise ConfigError(f"No frame of '{path}' could be decoded. Try to re-encode the file.")
    # A damaged file may give fewer than its index says.
    frames += frames[-1:] * (len(frames) % 2)
    with opened(path) as container:
        has_sound = bool(container.streams.audio)
    sound = read_sound(path, [(0.0, whole / fps)])[0] if has_sound else None
    return Video.of(frames, fps, whole, sound)
