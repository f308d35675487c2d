"""What must be known to prune video-SALMONN 2 and 2+."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.defaults import PUBLISHED_DEPTH, PUBLISHED_DROP_RATIO
from fastav_plugin.errors import TokenMapError
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.registry import register_override
from fastav_plugin.tokens import Modality, TokenMap

#: Audio tokens of one frame where no pictures say how long a frame is: one second.
_SOUND_ALONE = 2


@register_override
class VideoSalmonn2Override(ModelOverride):
    """Equal frames, each with its share of the sound; one unbroken run of media is one clip."""

    model_types = ("video_salmonn_2",)
    global_rule = "first 4 frames"
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
        return _equal_frames(tokens.one_segment_per_run(), config.tokens_per_frame)


@register_override
class VideoSalmonn2PlusOverride(ModelOverride):
    """Time grids of a clip with the sound between them; frames are known from `frame_ids`."""

    model_types = ("video_salmonn2_plus",)
    # Pictures have no frames.
    global_rule = {"video": "first 4 frames", "audio": "first 4 frames"}  # noqa: RUF012
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
        tokens = tokens.one_segment_per_run()
        frame_ids = inputs.get("frame_ids")
        media = tokens.mask(Modality.VIDEO, Modality.AUDIO)
        if frame_ids is None or not bool(media.any()):
            return tokens
        frames = _aligned(frame_ids.to(media.device), media)
        if frames is None:
            raise TokenMapError(
                f"`frame_ids` of shape {tuple(frame_ids.shape)} do not fit the media of a prompt "
                f"of shape {tuple(media.shape)}. Make both with one call of the processor."
            )
        return tokens.with_frames(frames)


def _aligned(frame_ids: Tensor, media: Tensor) -> Tensor | None:
    """Frames of the input tokens, int64 [B, T]; None where they fit nowhere.

    Drafts may follow the prompt that `frame_ids` [B, L] is of, and earlier turns go before it, so
    the two are laid over each other where their media end.
    """
    if len(frame_ids) != len(media):
        return None
    ends = [
        torch.where(known, torch.arange(known.shape[1], device=known.device), -1).amax(dim=1)
        for known in (media, frame_ids >= 0)
    ]
    offset = int((ends[0] - ends[1])[media.any(dim=1)][0])
    shape = (offset, media.shape[1] - frame_ids.shape[1] - offset)
    # Negative padding cuts.
    frames = torch.nn.functional.pad(frame_ids, shape, value=-1)
    return frames if torch.equal(frames >= 0, media) else None


def _equal_frames(tokens: TokenMap, size: int) -> TokenMap:
    """Number frames of `size` visual tokens; a sound is in the frame that it follows.

    A run without pictures, a sound alone, is numbered in seconds.
    """
    media, video = tokens.media, tokens.mask(Modality.VIDEO)
    segment = tokens.segment.clamp(min=0)
    sights = torch.zeros_like(segment).scatter_add(1, segment, video.long())
    alone = media & (sights.gather(1, segment) == 0)
    place = torch.arange(tokens.length, device=media.device)
    first = torch.nn.functional.pad(tokens.segment, (1, 0), value=-1)[:, :-1] != tokens.segment
    since = place - torch.where(first, place, 0).cummax(dim=1).values
    opens = video & ((video.long().cumsum(dim=1) - 1) % size == 0)
    opens |= alone & (since % _SOUND_ALONE == 0)
    return tokens.with_frames(torch.where(media, opens.long().cumsum(dim=1) - 1, -1))
