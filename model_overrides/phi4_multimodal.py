"""Phi-4 multimodal: the text model calls the towers; their configurations hold the ids."""

from typing import Any

from typing_extensions import override

from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality


@register_override
class Phi4MultimodalOverride(ModelOverride):
    """Image and audio placeholders of the tower configurations."""

    model_types = ("phi4_multimodal",)

    @override
    def placeholders(self, config: Any) -> dict[int, Modality]:
        return {
            config.vision_config.image_token_id: Modality.IMAGE,
            config.audio_config.audio_token_id: Modality.AUDIO,
        }
