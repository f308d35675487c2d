"""DART: keep the tokens that duplicate a few pivots least."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import check_integer
from fastav_plugin.functional.selectors.pivots import largest_norms, least_similar_picks
from fastav_plugin.hooks.base import ENTRANCE, LayerView
from fastav_plugin.hooks.feature_pruning import FeaturePruning, Picker
from fastav_plugin.hooks.plannable import Count
from fastav_plugin.hooks.ratio_pruning import KEEP_RATIOS
from fastav_plugin.hooks.registry import register_hook
from fastav_plugin.tokens import Modality


@register_hook
class Dart(FeaturePruning):
    """Keep, on entering layer 2, a few pivots and the tokens least similar to any of them.

    Pivots are the media and text tokens with the largest norms. The authors take the norms of a
    layer's keys; a hook sees hidden states, so these are used here, for similarity as well. A
    token's similarity is its largest cosine to a pivot; where the authors give each pivot a share
    of the budget, here all compete. It needs no attention, so any layer is possible.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens, chosen apart with pivots of their own; None
            keeps all audio.
        layer: the layer to enter, or ENTRANCE (-1); None means 2. The config's `global_layer` does
            not change it.
        media_pivots: pivots among the candidates; they are kept.
        text_pivots: pivots among the text tokens.

    Reference: DART (arXiv 2502.11494).
    """

    name = "dart"
    # The second layer is the method: a budget does not move it.
    config_fields: ClassVar[Mapping[str, str]] = KEEP_RATIOS
    lowest_layer = ENTRANCE

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        layer: int | None = None,
        media_pivots: int = 4,
        text_pivots: int = 4,
    ) -> None:
        super().__init__(visual_keep_ratio, audio_keep_ratio)
        check_integer("layer", layer, minimum=self.lowest_layer, optional=True)
        check_integer("media_pivots", media_pivots, minimum=0)
        check_integer("text_pivots", text_pivots, minimum=0)
        self.layer = layer
        self.media_pivots = media_pivots
        self.text_pivots = text_pivots

    @override
    def default_layer(self, num_layers: int) -> int:
        return min(2, num_layers - 1)

    @override
    def picker(self, view: LayerView) -> Picker:
        text = view.mask(Modality.TEXT)

        def pick(sample: int, index: Tensor, count: int) -> Tensor:
            states = view.hidden_states[sample]
            words = states[text[sample]]
            beside = words[largest_norms(words, self.text_pivots)]
            return least_similar_picks(
                states[index], count, pivots=self.media_pivots, beside=beside
            )

        return pick

    @override
    def selection_macs(self, candidates: Count, kept: Count, width: int) -> Count:
        """The cosines of all candidates to the pivots."""
        return candidates * (self.media_pivots + self.text_pivots) * width
