"""Qwen2.5-Omni and Qwen3-Omni: image, video, audio, and audio interleaved with its video."""

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from typing_extensions import override

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.qwen_vl import grid_frames
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality, TokenMap
from fastav_plugin.upstream.generation import will_speak


@register_override
class QwenOmniOverride(ModelOverride):
    """The thinker. The full model is pruned through its thinker, for text output only.

    The talker reads hidden states of the whole prompt, which a cut shortens, so speech output is
    refused.
    """

    model_types = (
        "qwen2_5_omni_thinker",
        "qwen2_5_omni",
        "qwen3_omni_moe_thinker",
        "qwen3_omni_moe",
    )

    @override
    def resolve(self, model: nn.Module) -> nn.Module:
        return getattr(model, "thinker", model)

    @override
    def head_config(self, config: Any) -> Any:
        return getattr(config, "thinker_config", config)

    @override
    def token_map(
        self, config: Any, input_ids: Tensor, attention_mask: Tensor | None, inputs: dict[str, Any]
    ) -> TokenMap:
        tokens = super().token_map(config, input_ids, attention_mask, inputs)
        return _interleaved(grid_frames(tokens, inputs, config.vision_config.spatial_merge_size))

    @override
    def check_request(self, head: nn.Module, inputs: dict[str, Any]) -> None:
        if will_speak(
            transformers.Qwen2_5OmniForConditionalGeneration,
            transformers.Qwen3OmniMoeForConditionalGeneration,
        ):
            raise UnsupportedError(
                "Speech output reads the whole prompt's hidden states, which pruning shortens. "
                "Call generate(..., generation_mode='text'), or pass no FastAVCache."
            )


def _interleaved(tokens: TokenMap) -> TokenMap:
    """One segment per clip, and each audio token in the frame that it belongs to.

    Only audio taken from a video is in one unbroken run of media with it; such a run is one clip,
    and an audio token belongs to the last frame before it.
    """
    segment = tokens.one_segment_per_run().segment
    latest = tokens.frame.cummax(dim=1).values
    audio = tokens.mask(Modality.AUDIO)
    # The frame must be of the same clip: frames are numbered over the whole batch row.
    clip_frame = torch.where(tokens.frame >= 0, segment, -1).cummax(dim=1).values
    frame = torch.where(audio & (clip_frame == segment), latest, tokens.frame)
    return TokenMap(tokens.modality, segment, frame)
