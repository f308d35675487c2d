"""FastV: after the second layer, keep the visual tokens that the last token attends to most."""

from __future__ import annotations

from typing_extensions import override

from fastav_plugin.hooks.base import LayerView, register_hook
from fastav_plugin.hooks.knobs import KEEP_KNOBS
from fastav_plugin.hooks.ratio_pruning import Choice, RatioPruning, best_of

#: The layer K that the authors recommend.
_K = 2


@register_hook
class FastV(RatioPruning):
    """FastV: keep, on entering layer 2, the visual rows the last query attended to most in layer 1.

    `visual_keep_ratio` is 1 - R of the paper, `layer` its K. Audio, which the paper has none of,
    takes a ratio of its own and is ranked by itself. Unlike the authors' code: no layer runs
    twice, keys and values are appended once, each batch row keeps rows of its own, every
    attention implementation serves, and padding takes no part.

    Reference: FastV (arXiv 2403.06764).
    """

    name = "fastv"
    needs_scores = True
    # The second layer is the method: a budget does not move it.
    knobs = KEEP_KNOBS

    @override
    def default_layer(self, num_layers: int) -> int:
        return min(_K, num_layers - 1)

    @override
    def choose(self, view: LayerView) -> Choice:
        assert view.scores is not None
        return best_of(view.scores)
