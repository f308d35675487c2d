"""LLaVA-1.5, LLaVA-NeXT, LLaVA-OneVision and LLaVA-NeXT-Video."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality, TokenMap


@register_override
class LlavaOverride(ModelOverride):
    """Image placeholders; rows that separate image lines count as image tokens."""

    model_types = ("llava", "llava_next")


@register_override
class LlavaVideoOverride(ModelOverride):
    """Image and video placeholders; every video frame is pooled to a square of fixed size."""

    model_types = ("llava_onevision", "llava_next_video")

    @override
    def token_map(
        self,
        config: Any,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        inputs: dict[str, Any],
    ) -> TokenMap:
        tokens = super().token_map(config, input_ids, attention_mask, inputs)
        return _pooled_frames(tokens, _frame_tokens(config))


def _frame_tokens(config: Any) -> int:
    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    stride = getattr(config, "spatial_pool_stride", None)
    return int((side // stride) ** 2 if stride else math.ceil(side / 2) ** 2)


def _pooled_frames(tokens: TokenMap, size: int) -> TokenMap:
    """Split each video segment into frames of `size` tokens; a shorter rest joins the last."""
    frame = tokens.frame.clone()
    video = tokens.mask(Modality.VIDEO)
    for row in range(tokens.rows):
        offset = 0
        for segment in sorted(set(tokens.segment[row][video[row]].tolist())):
            where = (tokens.segment[row] == segment).nonzero().squeeze(1)
            count = max(1, where.numel() // size)
            number = torch.arange(where.numel(), device=frame.device) // size
            frame[row, where] = offset + number.clamp(max=count - 1)
            offset += count
    return tokens.with_frames(frame)
