"""SCOPE: before the first layer, keep the tokens that together cover all others best."""

from torch import Tensor
from typing_extensions import override

from fastav_plugin.functional.selectors.coverage import covering_picks
from fastav_plugin.hooks.base import LayerView
from fastav_plugin.hooks.feature_pruning import FeaturePruning, Picker
from fastav_plugin.hooks.plannable import Count
from fastav_plugin.hooks.registry import register_hook


@register_hook
class Scope(FeaturePruning):
    """Keep, before layer 0, a subset of each sample's tokens by greedy coverage.

    A token is covered by the most similar one that is kept. The authors weight the gain of each
    token by the attention it received in the vision tower, to a power; a LayerView does not show
    that, so all weights are one here.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens, chosen apart; None keeps all audio.

    Reference: SCOPE (arXiv 2510.24214).
    """

    name = "scope"

    @override
    def picker(self, view: LayerView) -> Picker:
        def pick(sample: int, index: Tensor, count: int) -> Tensor:
            return covering_picks(view.hidden_states[sample, index], count)

        return pick

    @override
    def selection_macs(self, candidates: Count, kept: Count, width: int) -> Count:
        """The cosines of all pairs, and what each pick covers of all."""
        return candidates * candidates * width + kept * candidates
