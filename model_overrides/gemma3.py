"""Gemma 3: sliding layers, and image tokens that see each other in both directions."""

from __future__ import annotations

from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override


@register_override
class Gemma3Override(ModelOverride):
    """Masks arrive made, one per kind of layer, with image blocks in them; they are cut as is."""

    model_types = ("gemma3",)
