"""FastAV's ablation: the global cut by attention instead of by position."""

from __future__ import annotations

from typing_extensions import override

from fastav_plugin.hooks.base import LayerView, register_hook
from fastav_plugin.hooks.ratio_pruning import Choice, RatioPruning, best_of


@register_hook
class LowAttentive(RatioPruning):
    """Drop, on entering the middle layer, the media rows the last query attended to least.

    The "low-attentive" row of FastAV's table of global rules. The paper compares rules at equal
    FLOPs: give the ratios of what it is compared with. Where audio has a ratio, image, video and
    audio rows compete with each other.

    Reference: FastAV (arXiv 2601.13143), ablation of the global rule.
    """

    name = "low_attentive"
    needs_scores = True
    competes = True

    @override
    def choose(self, view: LayerView) -> Choice:
        assert view.scores is not None
        return best_of(view.scores)
