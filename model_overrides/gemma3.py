"""Gemma 3: sliding layers, and bidirectional attention between image tokens."""

from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override


@register_override
class Gemma3Override(ModelOverride):
    """Masks come as arguments, one per kind of layer, image blocks included, and are cut."""

    model_types = ("gemma3",)
