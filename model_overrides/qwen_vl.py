"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL (whose text model adds deepstack features by token)."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality, TokenMap


@register_override
class QwenVLOverride(ModelOverride):
    """Image and video placeholders, multi-dimensional rotary positions, one frame per time grid."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")

    @override
    def refusal(self, config: Any) -> str | None:
        # The authors' config.json has its base model's type.
        if getattr(config, "audio_config", None):
            return (
                "it is a video-SALMONN 2+ loaded as its base model, which takes no audio; use "
                "fastav_plugin.model_overrides.video_salmonn2."
                "VideoSalmonn2PlusForConditionalGeneration"
            )
        return super().refusal(config)

    @override
    def token_map(
        self, config: Any, input_ids: Tensor, attention_mask: Tensor | None, inputs: dict[str, Any]
    ) -> TokenMap:
        tokens = super().token_map(config, input_ids, attention_mask, inputs)
        return grid_frames(tokens, inputs, config.vision_config.spatial_merge_size)


def grid_frames(tokens: TokenMap, inputs: dict[str, Any], merge: int) -> TokenMap:
    """Number video frames, one per time grid.

    They follow from `video_grid_thw` (int64 [videos, 3], in patches). Where that is missing or
    does not match the tokens, as in prompts that the family's processor did not make, they follow
    from position ids [3 or 4, B, T], whose temporal index grows from grid to grid.
    """
    video = tokens.mask(Modality.VIDEO)
    grids = inputs.get("video_grid_thw")
    if grids is not None:
        sizes = [h * w // merge**2 for t, h, w in grids.tolist() for _ in range(t)]
        if sum(sizes) == int(video.sum()):
            return tokens.with_frames(_frames_of_sizes(video, sizes))
    position_ids = inputs.get("position_ids")
    if position_ids is None or position_ids.dim() != 3 or position_ids.shape[0] < 3:
        return tokens
    times = position_ids[-3].to(video.device)
    times = torch.where(video, times, -1).cummax(dim=1).values
    before = torch.nn.functional.pad(times, (1, 0), value=-1)[:, :-1]
    starts = video & (times > before)
    return tokens.with_frames(torch.where(video, starts.long().cumsum(dim=1) - 1, tokens.frame))


def _frames_of_sizes(video: Tensor, sizes: list[int]) -> Tensor:
    """Frames of the sizes of the whole batch, numbered within each batch row: int64 [B, T]."""
    frame = torch.full_like(video, -1, dtype=torch.int64)
    lengths = torch.tensor(sizes, dtype=torch.int64, device=video.device)
    frame[video] = torch.repeat_interleave(lengths)
    first = torch.where(video, frame, len(sizes)).amin(dim=1, keepdim=True)
    return torch.where(video, frame - first, -1)
