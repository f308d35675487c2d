"""VideoLLaMA2.1-7B-AV: SigLIP frames and BEATs sound before a Qwen2 decoder."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastav_plugin.model_overrides.videollama2.override import VideoLlama2Override

if TYPE_CHECKING:
    from fastav_plugin.model_overrides.videollama2.beats import BeatsEncoder
    from fastav_plugin.model_overrides.videollama2.conditional_generation import (
        VideoLlama2ForConditionalGeneration,
    )
    from fastav_plugin.model_overrides.videollama2.configuration import (
        BeatsConfig,
        VideoLlama2Config,
    )
    from fastav_plugin.model_overrides.videollama2.connector import STCConnector
    from fastav_plugin.model_overrides.videollama2.filter_banks import BeatsFeatureExtractor
    from fastav_plugin.model_overrides.videollama2.modeling import VideoLlama2Model
    from fastav_plugin.model_overrides.videollama2.processing import VideoLlama2Processor

#: Module of each name; modelling code is imported when it is first asked for.
_PLACES = {
    "BeatsConfig": "configuration",
    "BeatsEncoder": "beats",
    "BeatsFeatureExtractor": "filter_banks",
    "STCConnector": "connector",
    "VideoLlama2Config": "configuration",
    "VideoLlama2ForConditionalGeneration": "conditional_generation",
    "VideoLlama2Model": "modeling",
    "VideoLlama2Processor": "processing",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


__all__ = [
    "BeatsConfig",
    "BeatsEncoder",
    "BeatsFeatureExtractor",
    "STCConnector",
    "VideoLlama2Config",
    "VideoLlama2ForConditionalGeneration",
    "VideoLlama2Model",
    "VideoLlama2Override",
    "VideoLlama2Processor",
]
