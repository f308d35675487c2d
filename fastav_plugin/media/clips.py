"""A clip of a file: pictures at a frame rate, and the sound that goes with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.files import AnySource, Source
from fastav_plugin.media.pictures import Animation, is_picture
from fastav_plugin.media.presentation import Frames
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform, fit_length, read_sound
from fastav_plugin.media.timeline import count_samples, spread
from fastav_plugin.media.tracks import EVEN_RATE, Tracks, read_tracks
from fastav_plugin.media.video import FRAMES_PER_SECOND, show


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


class ClipFile:
    """A file with pictures, sound or both, on one timeline; nothing is decoded before it is asked.

    Args:
        source: of a clip, a sound, or an animated picture, which is a clip of one pass of its loop.

    Raises:
        ConfigError: it cannot be read, or holds neither pictures nor sound.
    """

    def __init__(self, source: AnySource) -> None:
        self.source = Source.of(source)
        self._animation = Animation(self.source) if is_picture(self.source) else None

    @cached_property
    def _tracks(self) -> Tracks:
        return read_tracks(self.source)

    @property
    def has_pictures(self) -> bool:
        """Whether it has pictures."""
        return self._animation is not None or self._tracks.pictures is not None

    @property
    def is_still(self) -> bool:
        """Whether it is a picture that does not move."""
        return self._animation is not None and len(self._animation.starts) < 2

    @property
    def has_sound(self) -> bool:
        """Whether it has a sound track that holds anything."""
        return self._animation is None and self._tracks.sound is not None

    @property
    def seconds(self) -> float:
        """Length of the longer of pictures and sound."""
        return self._tracks.seconds if self._animation is None else self._animation.end

    @property
    def picture_seconds(self) -> float:
        """When the last picture ends; 0 without pictures, and for a still one."""
        if self._animation is not None:
            return self._animation.end
        return 0.0 if self._tracks.pictures is None else self._tracks.pictures.end

    @property
    def sound_seconds(self) -> float:
        """When the sound ends; 0 without."""
        sound = None if self._animation is not None else self._tracks.sound
        return 0.0 if sound is None else sound.end

    @property
    def rate(self) -> float:
        """Frames per second of an even view of the pictures: their own where it is steady."""
        if self._animation is not None:
            return EVEN_RATE
        return 0.0 if self._tracks.pictures is None else self._tracks.pictures.rate

    @property
    def count(self) -> int:
        """Frames of that view; 0 without pictures."""
        return max(1, round(self.picture_seconds * self.rate)) if self.has_pictures else 0

    def show(self, times: Sequence[float]) -> Iterator[Frames]:
        """The pictures shown at some times, ascending, in seconds: uint8 [H, W, 3] each.

        Raises:
            ConfigError: it has no pictures, or none of them can be decoded.
        """
        if self._animation is not None:
            return self._animation.show(times)
        if self._tracks.pictures is None and "video" in self._tracks.unknown:
            raise self.source.fault("nothing decodes the codec of its pictures")
        if self._tracks.pictures is None:
            raise ConfigError(
                f"{self.source.name} holds no pictures. Give a file with a video stream, or a "
                "sound as one (`--audio`)."
            )
        return show(self.source, self._tracks, times)

    def frames(self, numbers: Sequence[int]) -> Iterator[Frames]:
        """Frames of the even view by their numbers, ascending: uint8 [H, W, 3] each."""
        return self.show([(number + 0.5) / self.rate for number in numbers])

    def sound(
        self, stretches: Sequence[tuple[float, float]] | None = None, *, mix: bool = True
    ) -> list[Waveform]:
        """Stretches of the sound, as `read_sound` returns them."""
        if self._animation is not None:
            raise ConfigError(f"{self.source.name} is a picture and holds no sound.")
        return read_sound(self.source, stretches, mix=mix, tracks=self._tracks)

    def heard(self, seconds: float, most: float | None = None) -> Waveform | None:
        """The sound of the first seconds, as long as they are; None without, or where silent.

        Of a sound that is not silent at its beginning no more than `most` seconds are decoded.
        """
        if not self.has_sound:
            return None
        if most is not None and most < seconds:
            beginning = self.heard(most)
            if beginning is None:
                whole = self.heard(seconds)
                return None if whole is None else whole[: round(most * SAMPLE_RATE)]
            return beginning
        waveform = fit_length(self.sound([(0.0, seconds)])[0], round(seconds * SAMPLE_RATE))
        return waveform if waveform.any() else None


def read_clip(
    source: AnySource, frames_per_second: float = FRAMES_PER_SECOND
) -> tuple[Frames, Waveform]:
    """Read pictures at a frame rate, and the sound, of any file that PyAV or Pillow can open.

    Args:
        source: the file.
        frames_per_second: how many frames to take of each second.

    Returns:
        frames, uint8 [T, H, W, 3], RGB, with T even (the last one repeated where needed); and the
        waveform, float32 [n] at 16 kHz, one channel, as long as the pictures, silence where the
        file has no sound.

    Raises:
        ConfigError: the file cannot be read or has no pictures.
        UnsupportedError: PyAV is not installed.
    """
    video = read_video(source, frames_per_second)
    length = round(len(video.frames) / frames_per_second * SAMPLE_RATE)
    return video.frames, fit_length(video.waveform, length)


def read_video(
    source: AnySource | ClipFile,
    fps: float = float(FRAMES_PER_SECOND),
    max_frames: int | None = None,
    *,
    seconds: float | None = None,
    sound_seconds: float | None = None,
) -> Video:
    """Read what a player shows at a frame rate, and the sound; no more is held than is returned.

    The clip lasts as long as the longer of its pictures and its sound: the last picture stands,
    or silence follows. Both are returned equally long, as processors expect them.

    Args:
        source: the file.
        fps: frames of each second.
        max_frames: at most so many, spread evenly over the clip.
        seconds: of the clip, its first ones; None for all of it.
        sound_seconds: of the sound, where no more is used than its first ones; 0 for none.

    Raises:
        ConfigError: also if the file has no pictures.
    """
    if not fps > 0 or (max_frames is not None and max_frames < 1):
        raise ConfigError(
            f"`fps` must be above 0 and `max_frames` at least 1, got {fps} and {max_frames}."
        )
    clip = source if isinstance(source, ClipFile) else ClipFile(source)
    length = clip.seconds if seconds is None else min(clip.seconds, seconds)
    taken = count_samples(length, fps)
    chosen = spread(taken, max_frames)
    frames = _stack(clip.show([index / fps for index in chosen]), len(chosen))
    whole = (taken + taken % 2) / fps
    waveform = None if sound_seconds == 0 else clip.heard(whole, sound_seconds)
    return Video(frames, len(frames) / whole, waveform)


def _stack(pictures: Iterator[Frames], count: int) -> Frames:
    """Pictures of one size as one array, without holding them twice."""
    first = next(pictures)
    whole = np.empty((count, *first.shape), np.uint8)
    whole[0] = first
    for index, picture in enumerate(pictures, 1):
        whole[index] = picture
    return whole
