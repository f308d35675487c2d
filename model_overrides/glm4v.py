"""GLM-4V: a video is image placeholders between a start and an end token."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.qwen_vl import grid_frames
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality, TokenMap


@register_override
class Glm4vOverride(ModelOverride):
    """Image placeholders are video between video tokens; each frame is a segment."""

    model_types = ("glm4v", "glm4v_moe", "glm46v", "glmga", "glm_ocr")

    @override
    def token_map(
        self, config: Any, input_ids: Tensor, attention_mask: Tensor | None, inputs: dict[str, Any]
    ) -> TokenMap:
        tokens = TokenMap.from_placeholders(
            input_ids, {config.image_token_id: Modality.IMAGE}, attention_mask
        )
        opened = (input_ids == config.video_start_token_id).long().cumsum(dim=1)
        closed = (input_ids == config.video_end_token_id).long().cumsum(dim=1)
        inside = (opened > closed) & tokens.media
        modality = tokens.modality.masked_fill(inside, int(Modality.VIDEO))
        tokens = TokenMap(modality, tokens.segment, tokens.frame)
        return grid_frames(tokens, inputs, config.vision_config.spatial_merge_size)
