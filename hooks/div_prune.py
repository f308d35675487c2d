"""DivPrune: keep a maximally diverse subset of the visual tokens before the first layer."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.functional.diversity import max_min_diversity
from fastav_plugin.hooks.base import ENTRANCE, LayerHook, LayerView, register_hook
from fastav_plugin.hooks.knobs import KEEP_KNOBS
from fastav_plugin.hooks.ratio_pruning import (
    check_ratios,
    counts_of,
    media_and_ratios,
    spread_evenly,
)
from fastav_plugin.hooks.windows import Window, Windows, check_window

__all__ = ["DivPrune", "DivPruneByFrame", "max_min_diversity"]


@register_hook
class DivPrune(LayerHook):
    """Max-min diversity over each sample's visual rows.

    A row with M visual tokens keeps `max(1, round(ratio * M))` of them, over all images and frames
    jointly unless there is a `window`. Rows that separate image
    lines (`image_newline`) count as visual tokens, as published.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens, on their own; None keeps all audio.
        window: rows that are compared with each other. None, as published: all of a sample's.
            "frame": those of one frame or image (of one run where frames are unknown). "segment":
            those of one unbroken run of media, which is a chunk where video and audio alternate.
            N: N tokens in a row, such as 50 for 2 s of Qwen-Omni's audio. Windows of w tokens
            take w / M of the products, and share the sample's count in proportion.

    Reference: DivPrune (arXiv 2503.02175).
    """

    name = "div_prune"
    knobs = KEEP_KNOBS

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        window: Window = None,
    ):
        check_window(window)
        check_ratios(visual_keep_ratio, audio_keep_ratio)
        self.visual_keep_ratio = visual_keep_ratio
        self.audio_keep_ratio = audio_keep_ratio
        self.window = window

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> DivPrune:
        return cls(config.visual_keep_ratio, config.audio_keep_ratio)

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({ENTRANCE})

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        keep = view.alive.new_ones(view.alive.numel())
        features = view.hidden_states.flatten(0, 1)
        for rows, ratio in media_and_ratios(view, self.visual_keep_ratio, self.audio_keep_ratio):
            if ratio == 1:
                continue
            windows = Windows.of(view, rows, self.window, ratio)
            if len(windows.sizes):
                keep[windows.rows] = False
                keep[windows.picks(features)] = True
        return keep.view_as(view.alive)

    @override
    def rehearse(self, view: LayerView) -> Tensor | None:
        keep = torch.ones_like(view.alive)
        # Windows change what is kept of a sample, not how much.
        for rows, ratio in media_and_ratios(view, self.visual_keep_ratio, self.audio_keep_ratio):
            keep &= ~rows | spread_evenly(rows, counts_of(rows, ratio))
        return keep


@register_hook
class DivPruneByFrame(DivPrune):
    """DivPrune within each frame or image: much less work, and each keeps its share, rounded.

    Where a frame's share is less than one row, some frames keep one and others none.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens; None keeps all audio.
        window: as in DivPrune.
    """

    name = "div_prune_by_frame"

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        window: Window = "frame",
    ):
        super().__init__(visual_keep_ratio, audio_keep_ratio, window)
