"""CDPruner: before the first layer, keep tokens that are diverse and relevant to the question."""

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.functional.cosines import min_max
from fastav_plugin.functional.selectors.determinantal import determinantal_picks
from fastav_plugin.functional.selectors.importance import mean_cosine
from fastav_plugin.hooks.base import LayerView
from fastav_plugin.hooks.feature_pruning import FeaturePruning, Picker, question_tokens
from fastav_plugin.hooks.plannable import Count
from fastav_plugin.hooks.registry import register_hook


@register_hook
class CDPruner(FeaturePruning):
    """Keep, before layer 0, the greedy most probable set of a determinantal point process.

    Its kernel is `diag(r) cos diag(r)`. The authors take the relevance r from the text tower of
    CLIP. A language model has none: here r is the mean cosine of a token's embedding to those of
    the question, which is the text after the last media token, scaled to [0, 1]. Where all are
    equally relevant, r is one.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens, chosen apart; None keeps all audio.
        negated: whether tokens unlike the question are the relevant ones. The authors negate the
            similarity of CLIP, for which they found the two opposed; which sign holds for another
            model is a matter of measurement.

    Reference: CDPruner (arXiv 2506.10967).
    """

    name = "cdpruner"

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        negated: bool = False,
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio)
        self.negated = negated

    @override
    def picker(self, view: LayerView) -> Picker:
        asked = question_tokens(view)

        def pick(sample: int, index: Tensor, count: int) -> Tensor:
            states = view.hidden_states[sample]
            features = states[index]
            similarity = mean_cosine(features, states[asked[sample]])
            relevance = min_max(-similarity if self.negated else similarity)
            relevance = torch.where(relevance.amax() > 0, relevance, 1.0)
            return determinantal_picks(features, relevance, count)

        return pick

    @override
    def selection_macs(self, candidates: Count, kept: Count, width: int) -> Count:
        """The cosines of all pairs, and for each pick a line of the Cholesky factor."""
        return candidates * candidates * width + candidates * (kept * (kept - 1) // 2)
