"""FastV: after the second layer, keep the visual tokens that the last token attends to most."""

from typing_extensions import override

from fastav_plugin.hooks.ratio_pruning import KEEP_RATIOS, ScorePruning
from fastav_plugin.hooks.registry import register_hook


@register_hook
class FastV(ScorePruning):
    """Keep, on entering layer 2, the visual tokens with the highest scores in layer 1.

    `visual_keep_ratio` is 1 - R of the paper, `layer` its K, which the config's `global_layer`, a
    setting of cuts in the middle, does not change. Audio, which the paper does not have, takes a
    ratio of its own and is ranked apart. Unlike the authors' code: no layer runs twice, keys and
    values are appended once, each batch row keeps tokens of its own, every attention
    implementation works, and padding takes no part.

    Reference: FastV (arXiv 2403.06764).
    """

    name = "fastv"
    # The second layer is the method: a budget does not move it.
    config_fields = KEEP_RATIOS

    @override
    def default_layer(self, num_layers: int) -> int:
        return min(2, num_layers - 1)  # as the authors recommend
