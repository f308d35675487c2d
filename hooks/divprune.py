"""DivPrune: keep a maximally diverse subset of the visual tokens before the first layer."""

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.hooks.base import ENTRANCE, LayerView
from fastav_plugin.hooks.plannable import Count
from fastav_plugin.hooks.ratio_pruning import KEEP_RATIOS, RatioPruning
from fastav_plugin.hooks.registry import register_hook
from fastav_plugin.hooks.windows import Window, Windows, check_window, window_sizes


@register_hook
class DivPrune(RatioPruning):
    """Max-min diversity over each sample's visual tokens.

    A batch row with M visual tokens keeps `max(1, round(ratio * M))` of them, chosen over all
    images and frames jointly unless there is a `window`. Tokens that separate image lines
    (`image_newline`) count as visual tokens, as published.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens, chosen apart; None keeps all audio.
        window: which tokens are compared with each other. None, as published: all of a sample's.
            "frame": those of one frame or image (of one segment where frames are unknown).
            "segment": those of one unbroken run of media, which is a chunk where video and audio
            alternate. N: N consecutive tokens, such as 50 for 2 s of Qwen-Omni's audio. Windows
            of w tokens take w / M of the products, and share the sample's count in proportion.

    Reference: DivPrune (arXiv 2503.02175).
    """

    name = "div_prune"
    config_fields = KEEP_RATIOS

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        window: Window = None,
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio)
        check_window(window)
        self.window = window

    @override
    def default_layer(self, num_layers: int) -> int:
        return ENTRANCE

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        keep = view.alive.new_ones(view.alive.numel())
        features = view.hidden_states.flatten(0, 1)
        for tokens, ratio in self.groups(view):
            if ratio == 1:
                continue
            windows = Windows.of(view, tokens, self.window, ratio)
            if len(windows.sizes):
                keep[windows.tokens] = False
                keep[windows.picks(features)] = True
        return keep.view_as(view.alive)

    @override
    def selection_macs(self, candidates: Count, kept: Count, width: int) -> Count:
        """The cosines of all pairs, and each pick's distances to all."""
        return candidates * candidates * width + kept * candidates

    @override
    def choice_macs(self, view: LayerView, keep: Tensor, width: int) -> Tensor | None:
        if self.window is None:
            return super().choice_macs(view, keep, width)
        spent = torch.zeros_like(view.start)
        for tokens, ratio in self.groups(view):
            if ratio < 1:
                sizes, quotas = window_sizes(view, tokens, self.window, ratio)
                spent = spent + self.selection_macs(sizes, quotas, width).sum(dim=1)
        return spent


@register_hook
class DivPruneByFrame(DivPrune):
    """DivPrune within each frame or image: much less work, and each keeps its share, rounded.

    Where a frame's share is less than one token, some frames keep one and others none. The
    arguments are those of DivPrune, where only the default of `window` differs.
    """

    name = "div_prune_by_frame"

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        window: Window = "frame",
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio, window)
