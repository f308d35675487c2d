"""What must be known to prune VideoLLaMA2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.defaults import PUBLISHED_DEPTH, PUBLISHED_DROP_RATIO
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality, TokenMap


@register_override
class VideoLlama2Override(ModelOverride):
    """All video tokens, then all audio tokens; two source frames make one step of video."""

    model_types = ("videollama2_qwen2",)
    global_rule = {"video": "all", "audio": "first 10 tokens"}  # noqa: RUF012
    fine_drop_ratio = PUBLISHED_DROP_RATIO
    global_depth = PUBLISHED_DEPTH

    @override
    def token_map(
        self,
        config: Any,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        inputs: dict[str, Any],
    ) -> TokenMap:
        tokens = super().token_map(config, input_ids, attention_mask, inputs)
        video = tokens.mask(Modality.VIDEO)
        # Every step of time has the same tokens, and a prompt holds one clip.
        step = video.long().cumsum(dim=1) - 1
        return tokens.with_frames(torch.where(video, step // config.video_tokens(2), -1))
