"""A model and one question about some media files, ready to be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastav_plugin.analysis.comparison import Outcome, Tick, compare
from fastav_plugin.cli.options.checkpoint import Machine
from fastav_plugin.cli.options.media import Reading
from fastav_plugin.config import FastAVConfig
from fastav_plugin.evaluation.sample import move_inputs
from fastav_plugin.media.inputs import Media, prepare_files, prepare_prompt, read_media
from fastav_plugin.model_overrides.own_models.configuration import read_config
from fastav_plugin.model_overrides.own_models.registry import own_model


@dataclass(frozen=True)
class Scene:
    """A model and one question about some media files.

    Attributes:
        model: in evaluation mode.
        processor: the model's.
        inputs: of generate(), on the model's device.
        files: and how they are read, as `read_media` takes them.
        read: what was read of them; None where the processor reads them itself.
    """

    model: Any
    processor: Any
    inputs: dict[str, Any]
    files: dict[str, Any]
    read: Media | None

    @classmethod
    def load(
        cls,
        folder: Path,
        question: str,
        *,
        images: Sequence[Path],
        video: Path | None,
        audio: Path | None,
        reading: Reading,
        machine: Machine,
    ) -> Scene:
        """Load the model in a folder, and its inputs for a question about files."""
        files: dict[str, Any] = {"images": list(images), "video": video, "audio": audio}
        files |= {"sound": reading.sound, "allow_damaged": reading.allow_damaged}
        sampled = {**files, "fps": reading.fps, "max_frames": reading.frames}
        # The models of this package read files themselves.
        own = own_model(read_config(folder)) is not None
        # A file that cannot be read is an error before the model is loaded.
        processor = machine.load_processor(folder)
        media = None if own else read_media(**sampled, processor=processor)
        model = machine.load_model(folder)
        if media is None:
            inputs = prepare_files(processor, question, **files, frames=reading.frames)
        else:
            inputs = prepare_prompt(processor, media, question)
        return cls(model, processor, move_inputs(inputs, model), sampled, media)

    @property
    def media(self) -> Media:
        """What is seen and heard in the files."""
        if self.read is not None:
            return self.read
        return read_media(**self.files, processor=self.processor)

    def compare(
        self,
        configs: Sequence[FastAVConfig],
        tick: Tick,
        *,
        max_new_tokens: int = 8,
        repeats: int = 1,
    ) -> list[Outcome]:
        """The answer of dense and of each config."""
        return compare(
            self.model,
            self.inputs,
            configs,
            decode=lambda ids: str(self.processor.decode(ids, skip_special_tokens=True)),
            max_new_tokens=max_new_tokens,
            repeats=repeats,
            tick=tick,
        )
