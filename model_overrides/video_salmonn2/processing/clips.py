"""Clips and sounds as the processors take them, from files of any length or from arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.clips import ClipFile
from fastav_plugin.media.files import Source
from fastav_plugin.media.presentation import Frames
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform, read_sound
from fastav_plugin.model_overrides.own_models.waveforms import check_waveform


@dataclass(frozen=True)
class Clip:
    """A clip that is not in a file.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        fps: frames per second.
        waveform: float32 [n] at 16 kHz; None without sound.
    """

    frames: Frames
    fps: float
    waveform: Waveform | None = None


class OpenClip:
    """One clip whose frames and sound can be read.

    Of a file whose pictures follow irregularly, what is shown at even times is counted.

    Args:
        source: path or Source of a file, or a Clip.

    Attributes:
        count: frames of the clip.
        fps: frames per second.
        seconds: length of the pictures.
        sound_seconds: length of the sound; 0 without.

    Raises:
        ConfigError: the file cannot be read, or holds no pictures.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        if not isinstance(source, str | Path | Source | Clip):
            shape = f" of shape {list(source.shape)}" if hasattr(source, "shape") else ""
            raise ConfigError(
                f"A clip must be a path or a Clip, got {type(source).__name__}{shape}. Frames in "
                "memory go into Clip(frames, fps, waveform), of "
                "fastav_plugin.model_overrides.video_salmonn2."
            )
        if isinstance(source, Clip):
            self.count, self.fps = len(source.frames), source.fps
            self.sound_seconds = (
                0.0 if source.waveform is None else len(source.waveform) / SAMPLE_RATE
            )
        else:
            self._file = ClipFile(source)
            self.count, self.fps = self._file.count, self._file.rate
            self.sound_seconds = self._file.sound_seconds
            if not self._file.has_pictures:
                raise ConfigError(f"{self.name} holds sound but no pictures. Pass it as `audio`.")
        if self.count == 0 or not self.fps > 0:
            raise ConfigError(
                f"{self.name} holds {self.count} frames at {self.fps:g} frames per second; at "
                "least one frame and a frame rate are needed. Try to re-encode it."
            )
        self.seconds = self.count / self.fps

    @property
    def name(self) -> str:
        """For errors."""
        return "The clip" if isinstance(self.source, Clip) else Source.of(self.source).name

    def pictures(self, indices: Sequence[int]) -> Iterator[Frames]:
        """Some frames in order, uint8 [H, W, 3] each."""
        if isinstance(self.source, Clip):
            return (self.source.frames[index] for index in indices)
        return self._file.frames(indices)

    def sound(self, mix: bool) -> Waveform | None:
        """float32 [n] at 16 kHz; None without sound.

        Args:
            mix: whether channels are mixed; else the first one is taken.
        """
        if not self.sound_seconds:
            return None
        if isinstance(self.source, Clip):
            whole = self.source.waveform
            assert whole is not None
            whole = check_waveform(whole)
        else:
            whole = self._file.sound(mix=mix)[0]
        return _at_least_a_second(whole)


def open_sound(source: Any, mix: bool) -> Waveform:
    """A sound of its own, float32 [n] at 16 kHz, from a path or an array.

    Args:
        source: the path, or float [n] at 16 kHz.
        mix: whether a file's channels are mixed; else the first one is taken.

    Raises:
        ConfigError: no sound in the file, or an array that is not [n] with n > 0.
    """
    if isinstance(source, str | Path | Source):
        found = read_sound(source, mix=mix)[0]
        if not len(found):
            raise ConfigError(f"{Source.of(source).name} holds no sound that could be decoded.")
        return _at_least_a_second(found)
    found = check_waveform(source)
    if not len(found):
        raise ConfigError(f"A sound must have samples, got {type(source).__name__} of none.")
    return _at_least_a_second(found)


def _at_least_a_second(waveform: Waveform) -> Waveform:
    return np.pad(waveform, (0, max(0, SAMPLE_RATE - len(waveform))))


def per_prompt(items: Any, prompts: int, name: str) -> list[list[Any]]:
    """The media of each prompt of a batch.

    Args:
        items: None, one medium, a list with one for each prompt, or a list of lists. For a
            batch of one prompt a flat list is all of that prompt's media.
        prompts: number of prompts.
        name: of the argument, for errors.

    Raises:
        ConfigError: not as many entries as prompts.
    """
    if items is None:
        return [[] for _ in range(prompts)]
    # An array or tensor is one medium.
    if isinstance(items, str | Path | Source | Clip) or hasattr(items, "shape"):
        items = [items]
    listed = list(items)
    if prompts == 1 and not any(isinstance(item, list | tuple) for item in listed):
        return [listed]
    if len(listed) != prompts:
        raise ConfigError(
            f"`{name}` has {len(listed)} entries for {prompts} prompts. Give one entry per prompt, "
            "None or a list where a prompt has none or several."
        )
    return [
        list(item) if isinstance(item, list | tuple) else [] if item is None else [item]
        for item in listed
    ]
