"""Ablations: FastAV's global cut by attention, and the last layers without media."""

from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import check_ratio
from fastav_plugin.hooks.base import LayerView
from fastav_plugin.hooks.plannable import (
    LATE_DEPTH,
    PlannableHook,
    early_removal,
    layer_at_depth,
)
from fastav_plugin.hooks.ratio_pruning import ScorePruning
from fastav_plugin.hooks.registry import register_hook


@register_hook
class LowAttentive(ScorePruning):
    """Drop, on entering the middle layer, the media tokens with the lowest scores.

    The "low-attentive" row of FastAV's table of global rules. The paper compares rules at equal
    FLOPs: give the ratios of what it is compared with. Where audio has a ratio, visual and audio
    tokens compete with each other.

    Reference: FastAV (arXiv 2601.13143), ablation of the global rule.
    """

    name = "low_attentive"
    competes = True


@register_hook
class LateRemoval(PlannableHook):
    """Drop all media tokens from a share of the depth on; meant to follow another method.

    `method="fastav+late_removal"`: the attention that the last layers pay to media is largely a
    sink. Published for one-word answers; longer ones may lose.

    Args:
        depth: the cut is made on entering layer `round(depth * L)`, at least 1 and at most
            L - 1; in (0, 1). 0.82 is layer 23 of 28 and 39 of 48.

    Reference: the last stage of SEATS (arXiv 2605.20035).
    """

    name = "late_removal"
    may_empty = True

    def __init__(self, depth: float = LATE_DEPTH) -> None:
        check_ratio("depth", depth, "(0, 1)")
        self.depth = depth

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({layer_at_depth(self.depth, num_layers)})

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        return ~view.media

    @override
    def caution(self, num_layers: int) -> str | None:
        return early_removal(self.name, min(self.layers(num_layers)), num_layers)
