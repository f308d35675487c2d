"""video-SALMONN 2 and 2+: clips with their sound laid between the frames."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastav_plugin.model_overrides.video_salmonn2.override import (
    VideoSalmonn2Override,
    VideoSalmonn2PlusOverride,
)

if TYPE_CHECKING:
    from fastav_plugin.model_overrides.video_salmonn2.configuration import (
        VideoSalmonn2Config,
        VideoSalmonn2PlusConfig,
        WindowQFormerConfig,
    )
    from fastav_plugin.model_overrides.video_salmonn2.modeling import (
        VideoSalmonn2ForConditionalGeneration,
        VideoSalmonn2Model,
    )
    from fastav_plugin.model_overrides.video_salmonn2.modeling_plus import (
        VideoSalmonn2PlusForConditionalGeneration,
        VideoSalmonn2PlusModel,
    )
    from fastav_plugin.model_overrides.video_salmonn2.processing.clips import Clip
    from fastav_plugin.model_overrides.video_salmonn2.processing.processor import (
        VideoSalmonn2Processor,
    )
    from fastav_plugin.model_overrides.video_salmonn2.processing.processor_plus import (
        VideoSalmonn2PlusProcessor,
    )
    from fastav_plugin.model_overrides.video_salmonn2.qformer import WindowQFormer
    from fastav_plugin.model_overrides.video_salmonn2.shared_type import SharedQwen2_5_VLConfig

#: Module of each name; modelling code is imported when it is first asked for.
_PLACES = {
    "Clip": "processing.clips",
    "SharedQwen2_5_VLConfig": "shared_type",
    "VideoSalmonn2Config": "configuration",
    "VideoSalmonn2ForConditionalGeneration": "modeling",
    "VideoSalmonn2Model": "modeling",
    "VideoSalmonn2PlusConfig": "configuration",
    "VideoSalmonn2PlusForConditionalGeneration": "modeling_plus",
    "VideoSalmonn2PlusModel": "modeling_plus",
    "VideoSalmonn2PlusProcessor": "processing.processor_plus",
    "VideoSalmonn2Processor": "processing.processor",
    "WindowQFormer": "qformer",
    "WindowQFormerConfig": "configuration",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


__all__ = [
    "Clip",
    "SharedQwen2_5_VLConfig",
    "VideoSalmonn2Config",
    "VideoSalmonn2ForConditionalGeneration",
    "VideoSalmonn2Model",
    "VideoSalmonn2Override",
    "VideoSalmonn2PlusConfig",
    "VideoSalmonn2PlusForConditionalGeneration",
    "VideoSalmonn2PlusModel",
    "VideoSalmonn2PlusOverride",
    "VideoSalmonn2PlusProcessor",
    "VideoSalmonn2Processor",
    "WindowQFormer",
    "WindowQFormerConfig",
]
