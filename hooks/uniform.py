"""The other honest floor: media rows at even distances."""

from __future__ import annotations

from typing_extensions import override

from fastav_plugin.hooks.base import LayerView, register_hook
from fastav_plugin.hooks.ratio_pruning import Choice, RatioPruning, spread_evenly


@register_hook
class UniformStride(RatioPruning):
    """Keep, on entering the middle layer, media rows at even distances in prompt order.

    `layer` may be ENTRANCE (-1), to thin out before layer 0.

    Reference: none; a floor to compare with.
    """

    name = "uniform"

    @override
    def choose(self, view: LayerView) -> Choice:
        return spread_evenly
