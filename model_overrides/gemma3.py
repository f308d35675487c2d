"""Gemma 3: sliding layers, and image tokens that see each other in both directions."""

from __future__ import annotations

from typing import Any, ClassVar

from typing_extensions import override

from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override


@register_override
class Gemma3Override(ModelOverride):
    """Masks arrive made, one per kind of layer, with image blocks in them; they are cut as is."""

    model_types: ClassVar[tuple[str, ...]] = ("gemma3",)

    @override
    def refusal(self, config: Any) -> str | None:
        if getattr(self.text_config(config), "use_bidirectional_attention", False):
            return "its text attends in both directions, so there is no last query"
        return super().refusal(config)
