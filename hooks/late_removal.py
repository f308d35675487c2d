"""Late removal: the last layers run without media."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import LayerHook, LayerView, register_hook


@register_hook
class LateRemoval(LayerHook):
    """Drop all media rows from a share of the depth on; meant to follow another method.

    `method="fastav+late_removal"`: the attention that the last layers pay to media is largely a
    sink. Published for one-word answers; longer ones may lose.

    Args:
        depth: the cut is made on entering layer `round(depth * L)`, at least 1 and at most
            L - 1; in (0, 1). 0.82 is layer 23 of 28 and 39 of 48.

    Reference: the last stage of SEATS (arXiv 2605.20035).
    """

    name = "late_removal"
    may_empty = True

    def __init__(self, depth: float = 0.82) -> None:
        if not 0 < depth < 1:
            raise ConfigError(f"`depth` must lie in (0, 1), got {depth!r}.")
        self.depth = depth

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({min(max(1, round(self.depth * num_layers)), num_layers - 1)})

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        return ~view.media
