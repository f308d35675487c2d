"""Questions about files as inputs of generate(), for any processor this package supports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fastav_plugin.evaluation.dataset import Dataset
from fastav_plugin.evaluation.records import Question
from fastav_plugin.evaluation.sample import Sample
from fastav_plugin.media.inputs import Media, prepare_files, prepare_prompt, read_media


class SampleInputs:
    """Makes inputs; files are read once for questions about them that follow each other.

    Args:
        processor: a checkpoint's.
        own: whether it is one of this package's processors, which read files themselves.
        fps: frames taken of each second of a video; ours choose themselves.
        frames: most frames, or for ours the very number; None for all, or the checkpoint's.
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


@dataclass(frozen=True)
class DatasetSource:
    """A dataset as a source of an evaluation."""

    dataset: Dataset
    prepare: SampleInputs

    @property
    def questions(self) -> list[Question]:
        """What is asked."""
        return self.dataset.questions

    @property
    def max_new_tokens(self) -> int:
        """Most tokens of an answer."""
        return self.dataset.form.max_new_tokens

    def inputs(self, question: Question) -> Mapping[str, Any]:
        """Inputs of generate() for one question."""
        return self.prepare(self.dataset.samples[question.key])


def move_inputs(inputs: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Tensors on the model's device, floating-point ones in its dtype; the rest as it is."""

    def move(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)

    return {name: move(value) for name, value in inputs.items()}
