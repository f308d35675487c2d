"""What must be known about each model family. A new family is one file here and one import."""

from fastav_plugin.model_overrides import (
    chameleon,
    ernie_vl,
    gemma3,
    gemma4,
    glm4v,
    llava,
    molmo2,
    paligemma,
    phi4_multimodal,
    qwen_omni,
    qwen_vl,
    video_salmonn2,
    videollama2,
)
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import find_override, register_override

__all__ = [
    "ModelOverride",
    "chameleon",
    "ernie_vl",
    "find_override",
    "gemma3",
    "gemma4",
    "glm4v",
    "llava",
    "molmo2",
    "paligemma",
    "phi4_multimodal",
    "qwen_omni",
    "qwen_vl",
    "register_override",
    "video_salmonn2",
    "videollama2",
]
