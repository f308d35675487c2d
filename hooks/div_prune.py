"""DivPrune: keep a maximally diverse subset of the visual tokens before the first layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.diversity import max_min_diversity, pick_in_groups
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import ENTRANCE, VISUAL, LayerHook, LayerView, register_hook
from fastav_plugin.hooks.knobs import KEEP_KNOBS
from fastav_plugin.hooks.windows import Window, Windows, check_window
from fastav_plugin.tokens import Modality

__all__ = ["DivPrune", "DivPruneByFrame", "max_min_diversity"]

#: Picks rows of each window by the features [B * T, C]: int64 [N, K], indices into the window.
Selection = Callable[[Tensor, Windows], Tensor]

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
        for ratio in (visual_keep_ratio, audio_keep_ratio):
            if ratio is not None and not 0 < ratio <= 1:
                raise ConfigError(f"A keep ratio must lie in (0, 1], got {ratio!r}.")
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
        return self._keep(view, _by_diversity)

    @override
    def rehearse(self, view: LayerView) -> Tensor | None:
        return self._keep(view, _spread_evenly)

    def _keep(self, view: LayerView, select: Selection) -> Tensor:
        keep = view.alive.new_ones(view.alive.numel())
        features = view.hidden_states.flatten(0, 1)
        groups = [(view.mask(*VISUAL), self.visual_keep_ratio)]
        if self.audio_keep_ratio is not None:
            groups.append((view.mask(Modality.AUDIO), self.audio_keep_ratio))
        for rows, ratio in groups:
            if ratio == 1:
                continue
            windows = Windows.of(view, rows, self.window, ratio)
            if len(windows.sizes):
                keep[windows.rows] = False
                keep[windows.kept(select(features, windows))] = True
        return keep.view_as(view.alive)


def _by_diversity(features: Tensor, windows: Windows) -> Tensor:
    return pick_in_groups(features, windows.rows, windows.valid, int(windows.quotas.max()))


def _spread_evenly(features: Tensor, windows: Windows) -> Tensor:
    """As many picks as by diversity, which of them is meant by no feature."""
    steps = torch.arange(int(windows.quotas.max()))
    places = steps * windows.sizes[:, None] // windows.quotas.clamp(min=1)[:, None]
    return places.clamp(max=windows.rows.shape[1] - 1).to(features.device)


@register_hook
class DivPruneByFrame(DivPrune):
    """DivPrune within each frame or image: much less work, and every moment keeps its share.

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
