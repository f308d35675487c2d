"""What must be known about each model family. A new family is one file here and one import."""

from fastav_plugin.model_overrides import chameleon as chameleon
from fastav_plugin.model_overrides import ernie_vl as ernie_vl
from fastav_plugin.model_overrides import gemma as gemma
from fastav_plugin.model_overrides import glm4v as glm4v
from fastav_plugin.model_overrides import llava as llava
from fastav_plugin.model_overrides import molmo2 as molmo2
from fastav_plugin.model_overrides import paligemma as paligemma
from fastav_plugin.model_overrides import phi4_multimodal as phi4_multimodal
from fastav_plugin.model_overrides import qwen_omni as qwen_omni
from fastav_plugin.model_overrides import qwen_vl as qwen_vl
from fastav_plugin.model_overrides import video_salmonn2 as video_salmonn2
from fastav_plugin.model_overrides import videollama2 as videollama2
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import find_override, register_override

__all__ = ["ModelOverride", "find_override", "register_override"]
