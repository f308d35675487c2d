"""Where a prompt of 2+ gets its rotary positions: first turns, later ones, and sound alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import StateError
from fastav_plugin.model_overrides.video_salmonn2.positions import (
    AUDIO,
    IMAGE,
    VIDEO,
    Grid,
    reference_positions,
    trained_positions,
)
from fastav_plugin.upstream.arguments import cache_of

#: What positions are counted from.
_SIZES = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")


class ClipPositions:
    """Mixin of Qwen2.5-VL's model: its positions, with sound between the time grids."""

    config: Any
    rope_deltas: Any

    def token_kinds(self, input_ids: Tensor) -> Tensor:
        """int64, kind of each id: 0 text, 1 picture, 2 video, 3 sound."""
        kinds = torch.zeros_like(input_ids)
        config = self.config
        for kind, token_id in (
            (IMAGE, config.image_token_id),
            (VIDEO, config.video_token_id),
            (AUDIO, config.audio_token_id),
        ):
            kinds.masked_fill_(input_ids == token_id, kind)
        return kinds

    def get_rope_index(
        self,
        input_ids: Tensor,
        mm_token_type_ids: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        second_per_grid_ts: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Rotary positions, int64 [3, B, T], and their offset from each row's length, [B, 1]."""
        merge = self.config.vision_config.spatial_merge_size
        pictures = [] if image_grid_thw is None else image_grid_thw.tolist()
        clips = [] if video_grid_thw is None else video_grid_thw.tolist()
        seconds = [1.0] * len(clips) if second_per_grid_ts is None else second_per_grid_ts
        grids = {
            IMAGE: iter([Grid(t, h // merge, w // merge) for t, h, w in pictures]),
            VIDEO: iter(
                [
                    Grid(t, h // merge, w // merge, float(span))
                    for (t, h, w), span in zip(clips, seconds, strict=True)
                ]
            ),
        }
        count = trained_positions if self.config.positions == "trained" else reference_positions
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = torch.zeros((3, *input_ids.shape), dtype=torch.int64, device=input_ids.device)
        deltas = []
        for row, (kinds, real) in enumerate(
            zip(self.token_kinds(input_ids), mask.bool(), strict=True)
        ):
            found = count(kinds[real], grids)
            positions[:, row, real] = found
            deltas.append(found.max() + 1 - found.shape[1])
        return positions, torch.stack(deltas)[:, None]

    def compute_3d_position_ids(self, input_ids: Tensor | None, **inputs: Any) -> Tensor | None:
        """As in Qwen2.5-VL; a sound alone, and media of a later turn, have them as well."""
        if input_ids is not None:
            cache = cache_of(inputs)
            past = 0 if cache is None else cache.get_seq_length()
            if past and bool(self.token_kinds(input_ids).any()):
                return self.later_positions(input_ids, past, inputs)
            inputs |= self.position_inputs(input_ids, inputs)
        found: Tensor | None = super().compute_3d_position_ids(  # type: ignore[misc]
            input_ids=input_ids, **inputs
        )
        return found

    def later_positions(self, input_ids: Tensor, past: int, inputs: dict[str, Any]) -> Tensor:
        """Positions of a later turn that brings media, which go on from the turns before.

        Args:
            input_ids: int64 [B, T], the input tokens.
            past: tokens seen in the turns before.
            inputs: sizes of their media, and `attention_mask` [B, past + T].

        Returns:
            int64 [3, B, T].
        """
        mask = inputs.get("attention_mask")
        if mask is None:
            mask = input_ids.new_ones((len(input_ids), past + input_ids.shape[1]))
        sizes = {name: inputs.get(name) for name in _SIZES}
        found, deltas = self.get_rope_index(input_ids, **sizes, attention_mask=mask[:, past:])
        before = self.rope_deltas
        if before is None:
            raise StateError(
                "The turns before were not run by this model, so where they end is not known. "
                "Pass `position_ids`."
            )
        self.rope_deltas = before + deltas
        start: Tensor = mask[:, :past].sum(dim=1, keepdim=True) + before
        return found + start

    def position_inputs(self, input_ids: Tensor, inputs: dict[str, Any]) -> dict[str, Tensor]:
        """What Qwen2.5-VL wants to see before it asks for positions of any media."""
        clips = inputs.get("video_grid_thw")
        none = torch.zeros((0, 3), dtype=torch.int64, device=input_ids.device)
        return {
            "mm_token_type_ids": self.token_kinds(input_ids),
            "video_grid_thw": none if clips is None else clips,
        }
