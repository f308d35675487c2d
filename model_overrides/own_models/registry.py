"""Models that transformers lacks and this package brings, for its Auto classes."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OwnModel:
    """One family of ours: names in its package, which is imported when it is registered.

    Attributes:
        package: full name of the package or module that has the rest.
        config: PreTrainedConfig class; its `model_type` is the key of the Auto classes.
        model: the class generate() is called on.
        processor: ProcessorMixin class.
        feature_extractor: class of the processor's sound part, if it is ours.
        layout: module of the package whose `is_official_folder(folder)` tells the authors'
            layout. It may have `model_folder(folder)`, the folder with the configuration where
            that is another one.
        shared_type: PreTrainedConfig class that AutoConfig is to use for the `model_type` that the
            authors' config.json shares with a model of transformers, if it does.
    """

    package: str
    config: str
    model: str
    processor: str
    feature_extractor: str | None = None
    layout: str = "official"
    shared_type: str | None = None

    def model_class(self) -> Any:
        """The class generate() is called on."""
        return getattr(importlib.import_module(self.package), self.model)

    def processor_class(self) -> Any:
        """Makes the model's inputs."""
        return getattr(importlib.import_module(self.package), self.processor)

    def official(self, folder: Path) -> bool:
        """Whether a folder holds a checkpoint in the authors' layout."""
        return bool(self._layout().is_official_folder(folder))

    def read_config(self, folder: Path) -> Any:
        """The configuration of a folder of this family; None if it is of another one."""
        where = getattr(self._layout(), "model_folder", Path)(folder)
        try:
            values = json.loads((where / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        config = getattr(importlib.import_module(self.package), self.config)
        if not isinstance(values, dict):
            return None
        # The authors' own name for it may be that of another model.
        claims = getattr(
            config, "claims", lambda given: given.get("model_type") == config.model_type
        )
        return config.from_pretrained(where, local_files_only=True) if claims(values) else None

    def _layout(self) -> Any:
        return importlib.import_module(f"{self.package}.{self.layout}")


#: A new family is one entry.
OWN_MODELS = (
    OwnModel(
        "fastav_plugin.model_overrides.videollama2",
        "VideoLlama2Config",
        "VideoLlama2ForConditionalGeneration",
        "VideoLlama2Processor",
        "BeatsFeatureExtractor",
    ),
    OwnModel(
        "fastav_plugin.model_overrides.video_salmonn2",
        "VideoSalmonn2Config",
        "VideoSalmonn2ForConditionalGeneration",
        "VideoSalmonn2Processor",
        layout="checkpoint.published",
    ),
    OwnModel(
        "fastav_plugin.model_overrides.video_salmonn2",
        "VideoSalmonn2PlusConfig",
        "VideoSalmonn2PlusForConditionalGeneration",
        "VideoSalmonn2PlusProcessor",
        layout="checkpoint.published",
        shared_type="SharedQwen2_5_VLConfig",
    ),
)


def register_models() -> None:
    """Teach transformers' Auto classes the models that this package brings.

    From then on `AutoConfig`, `AutoModelForMultimodalLM`, `AutoModelForCausalLM` and
    `AutoProcessor` read the authors' own checkpoint folders, and what was saved or converted from
    them. `AutoProcessor` goes first by the processor that a folder's files name, and knows no
    adapters: where the authors left the name of another family's, and for an adapter of 2+, call
    `from_pretrained` of our processor. May be called again.
    """
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoModelForCausalLM,
        AutoModelForMultimodalLM,
        AutoProcessor,
    )

    for own in OWN_MODELS:
        package = importlib.import_module(own.package)
        config, model = getattr(package, own.config), getattr(package, own.model)
        AutoConfig.register(config.model_type, config, exist_ok=True)
        if own.shared_type is not None:
            shared = getattr(package, own.shared_type)
            AutoConfig.register(shared.model_type, shared, exist_ok=True)
        AutoModelForMultimodalLM.register(config, model, exist_ok=True)
        AutoModelForCausalLM.register(config, model, exist_ok=True)
        AutoProcessor.register(config, getattr(package, own.processor), exist_ok=True)
        if own.feature_extractor is not None:
            extractor = getattr(package, own.feature_extractor)
            AutoFeatureExtractor.register(config, extractor, exist_ok=True)


def read_own_config(folder: Path) -> Any:
    """The configuration of a folder of one of our models; None if it is of none of them.

    Raises:
        ConfigError: it is of one of ours, and cannot be used.
    """
    found = (own.read_config(Path(folder)) for own in OWN_MODELS)
    return next((config for config in found if config is not None), None)


def own_model(config: Any) -> OwnModel | None:
    """The entry of a configuration; None if it is of no model of ours."""
    names = {base.__name__: base.__module__ for base in type(config).__mro__}
    return next(
        (own for own in OWN_MODELS if names.get(own.config, "").startswith(own.package)), None
    )
