"""LLaVA-1.5, LLaVA-NeXT, LLaVA-OneVision and LLaVA-NeXT-Video."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from fastav_plugin.model_overrides.generic import GenericOverride
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality, TokenMap

#: Text models that this family is tested with; any other is probed.
_TEXT_MODELS = frozenset({"llama", "mistral", "qwen2"})


@register_override
class LlavaOverride(GenericOverride):
    """Image placeholders; tokens that separate image lines count as image tokens."""

    model_types = ("llava", "llava_next")

    @override
    def admit(self, model: nn.Module) -> None:
        if not self._knows(model):
            super().admit(model)

    @override
    def scores_allowed(self, head: nn.Module) -> bool:
        return self._knows(head) or super().scores_allowed(head)

    def _knows(self, model: Any) -> bool:
        return self.text_config(model.config).model_type in _TEXT_MODELS


@register_override
class LlavaVideoOverride(LlavaOverride):
    """Image and video placeholders; every video frame is pooled to a square of fixed size."""

    model_types = ("llava_onevision", "llava_next_video")

    @override
    def token_map(
        self, config: Any, input_ids: Tensor, attention_mask: Tensor | None, inputs: dict[str, Any]
    ) -> TokenMap:
        tokens = super().token_map(config, input_ids, attention_mask, inputs)
        return _pooled_frames(tokens, _frame_tokens(config))


def _frame_tokens(config: Any) -> int:
    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    stride = getattr(config, "spatial_pool_stride", None)
    return int((side // stride) ** 2 if stride else math.ceil(side / 2) ** 2)


def _pooled_frames(tokens: TokenMap, size: int) -> TokenMap:
    """Split each video segment into frames of `size` tokens; a shorter remainder joins the last."""
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
