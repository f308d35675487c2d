"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL (whose loop adds deepstack features by row)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastav_plugin.model_overrides.base import ModelOverride, frames_from_grids
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality, TokenMap


@register_override
class QwenVLOverride(ModelOverride):
    """Image and video placeholders, multi-dimensional rotary positions, one frame per time grid."""

    model_types = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")

    def token_map(
        self,
        config: Any,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        inputs: dict[str, Any],
    ) -> TokenMap:
        tokens = super().token_map(config, input_ids, attention_mask, inputs)
        return grid_frames(tokens, inputs, config.vision_config.spatial_merge_size)


def grid_frames(tokens: TokenMap, inputs: dict[str, Any], merge: int) -> TokenMap:
    """Number video frames from `video_grid_thw`: int64 [videos, 3] in patches."""
    grids = inputs.get("video_grid_thw")
    if grids is None:
        return tokens
    sizes = [[h * w // merge**2] * t for t, h, w in grids.tolist()]
    return frames_from_grids(tokens, Modality.VIDEO, sizes)
