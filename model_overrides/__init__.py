"""What must be known about each model family. A new family is one file here and one row below."""

from fastav_plugin.model_overrides import (
    gemma3,
    llava,
    qwen_omni,
    qwen_vl,
    video_salmonn2,
    videollama2,
)
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import find_override, register_override

__all__ = [
    "ModelOverride",
    "find_override",
    "gemma3",
    "llava",
    "qwen_omni",
    "qwen_vl",
    "register_override",
    "video_salmonn2",
    "videollama2",
]
