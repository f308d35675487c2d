"""What `fastav visualize` draws: a model and one question about one clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastav_plugin.analysis.comparison import Outcome, Tick, compare
from fastav_plugin.cli.options.checkpoint import Machine
from fastav_plugin.config import FastAVConfig
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.inputs import Media, prepare_files, prepare_prompt, read_media
from fastav_plugin.model_overrides.own_models.configuration import read_config
from fastav_plugin.model_overrides.own_models.registry import own_model


@dataclass(frozen=True)
class Scene:
    """A model and one question about one clip."""

    model: Any
    processor: Any
    media: Media
    inputs: dict[str, Any]

    @classmethod
    def load(
        cls,
        folder: Path,
        video: Path | None,
        question: str,
        *,
        allow_damaged: bool,
        threads: int | None,
    ) -> Scene:
        """Load the model in a folder, and a clip, one that is shipped by default."""
        files: dict[str, Any] = {"images": [], "audio": None}
        files |= {"video": video or SAMPLES[0].path, "allow_damaged": allow_damaged}
        own = own_model(read_config(folder)) is not None
        # The models of this package read files themselves.
        media = Media() if own else read_media(**files)
        model, processor = Machine(threads=threads).load(folder)
        if own:
            inputs = prepare_files(processor, question, **files)
        else:
            inputs = prepare_prompt(processor, media, question)
        return cls(model, processor, media, inputs)

    def compare(self, configs: list[FastAVConfig], tick: Tick) -> list[Outcome]:
        """The answer of dense and of each config."""
        return compare(
            self.model,
            self.inputs,
            configs,
            decode=lambda ids: str(self.processor.decode(ids, skip_special_tokens=True)),
            max_new_tokens=8,
            repeats=1,
            tick=tick,
        )
