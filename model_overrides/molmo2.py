"""Molmo 2: one placeholder for patches of images and of video frames."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality, TokenMap


@register_override
class Molmo2Override(ModelOverride):
    """A request has patches of a video or of images, never of both."""

    model_types = ("molmo2",)

    @override
    def token_map(
        self, config: Any, input_ids: Tensor, attention_mask: Tensor | None, inputs: dict[str, Any]
    ) -> TokenMap:
        encoded = inputs.get("mm_encoder_outputs") or {}
        video = inputs.get("pixel_values_videos") is not None or encoded.get("video") is not None
        kind = Modality.VIDEO if video else Modality.IMAGE
        return TokenMap.from_placeholders(input_ids, {config.image_patch_id: kind}, attention_mask)
