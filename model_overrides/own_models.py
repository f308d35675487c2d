"""Models that transformers lacks and this package brings, for its Auto classes."""

from __future__ import annotations

import importlib
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
            layout.
    """

    package: str
    config: str
    model: str
    processor: str
    feature_extractor: str | None = None
    layout: str = "official"

    def model_class(self) -> Any:
        """The class generate() is called on."""
        return getattr(importlib.import_module(self.package), self.model)

    def official(self, folder: Path) -> bool:
        """Whether a folder holds a checkpoint in the authors' layout."""
        module = importlib.import_module(f"{self.package}.{self.layout}")
        return bool(module.is_official_folder(folder))


#: A new family is one row.
OWN_MODELS = (
    OwnModel(
        "fastav_plugin.model_overrides.videollama2",
        "VideoLlama2Config",
        "VideoLlama2ForConditionalGeneration",
        "VideoLlama2Processor",
        "BeatsFeatureExtractor",
    ),
)


def register_models() -> None:
    """Teach transformers' Auto classes the models that this package brings.

    From then on `AutoConfig`, `AutoModelForMultimodalLM`, `AutoModelForCausalLM` and
    `AutoProcessor` read the authors' own checkpoint folders. May be called again.
    """
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoModelForCausalLM,
        AutoModelForMultimodalLM,
        AutoProcessor,
    )

    for row in OWN_MODELS:
        package = importlib.import_module(row.package)
        config, model = getattr(package, row.config), getattr(package, row.model)
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForMultimodalLM.register(config, model, exist_ok=True)
        AutoModelForCausalLM.register(config, model, exist_ok=True)
        AutoProcessor.register(config, getattr(package, row.processor), exist_ok=True)
        if row.feature_extractor is not None:
            extractor = getattr(package, row.feature_extractor)
            AutoFeatureExtractor.register(config, extractor, exist_ok=True)


def own_model(config: Any) -> OwnModel | None:
    """The row of a configuration; None if it is of no model of ours."""
    names = {base.__name__: base.__module__ for base in type(config).__mro__}
    return next(
        (row for row in OWN_MODELS if names.get(row.config, "").startswith(row.package)), None
    )
