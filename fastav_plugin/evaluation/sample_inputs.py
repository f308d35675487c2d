"""Questions about files as inputs of generate(), for any processor this package supports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fastav_plugin.evaluation.sample import Sample
from fastav_plugin.media.inputs import Media, prepare_files, prepare_prompt, read_media


class SampleInputs:
    """Makes inputs; consecutive questions about the same files read them once.

    Args:
        processor: a checkpoint's.
        own: whether it is one of this package's processors, which read files themselves.
        fps: frames per second of a video; this package's processors choose their own.
        frames: at most so many frames, or exactly so many for this package's processors; None
            for all, or the checkpoint's number.
        sound: "separate", "interleaved" or "none": a video's own sound.
    """

    def __init__(
        self,
        processor: Any,
        *,
        own: bool = False,
        fps: float = 2.0,
        frames: int | None = None,
        sound: str = "separate",
    ) -> None:
        self._processor, self._own = processor, own
        self._fps, self._frames, self._sound = fps, frames, sound
        self._read: tuple[Any, Media] | None = None

    def __call__(self, sample: Sample) -> dict[str, Any]:
        """Inputs of generate(), batch size 1, on the CPU.

        Raises:
            ConfigError: a file that cannot be read.
            UnsupportedError: media that the processor does not take.
        """
        files: dict[str, Any] = {
            "images": [] if sample.image is None else [sample.image],
            "video": sample.video,
            "audio": sample.audio,
            "sound": self._sound if sample.sound else "none",
        }
        if self._own:
            return prepare_files(self._processor, sample.question, **files, frames=self._frames)
        if self._read is None or self._read[0] != files:
            media = read_media(**files, fps=self._fps, max_frames=self._frames)
            self._read = files, media
        return prepare_prompt(self._processor, self._read[1], sample.question)


def move_inputs(inputs: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Tensors on the model's device, floating-point ones in its dtype; the rest as it is."""

    def move(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)

    return {name: move(value) for name, value in inputs.items()}
