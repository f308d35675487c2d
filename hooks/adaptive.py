"""A global cut whose size follows the prompt: as many rows as hold a share of the rollout."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import LayerHook, LayerView, one_layer, register_hook
from fastav_plugin.hooks.fine_pruning import keep_top
from fastav_plugin.hooks.ratio_pruning import spread_evenly
from fastav_plugin.hooks.rollout_guided import check_reading, read_rollout


@register_hook
class AdaptivePruning(LayerHook):
    """Keep, on entering the middle layer, the fewest media rows that hold a share of the rollout.

    All media of a batch row compete with each other. A prompt whose answer hangs on a few rows
    keeps few, one that is attended to evenly keeps many; so the number of rows is known only
    once the prompt is read, and a plan can only bound it. The config's `global_layer` is the
    layer; composed with FastAV's fine cut it is `method="adaptive+fine_pruning"`.

    Args:
        mass: share of the media rows' rollout that the rows kept hold at least, in (0, 1].
        layer: the layer to enter; None means L // 2. The rollout is that of all layers below.
        by: "last_row", what the last row is made of, or "column_sums", what a row gives to all.
        alpha: weight of attention against the residual path, in [0, 1].

    Reference: none; the rollout is that of FastAV (arXiv 2601.13143), section 2.1.
    """

    name = "adaptive"
    needs_rollout = True
    counts_vary = True

    def __init__(
        self,
        mass: float = 0.9,
        layer: int | None = None,
        by: str = "last_row",
        alpha: float = 0.5,
    ) -> None:
        if not 0 < mass <= 1:
            raise ConfigError(f"`mass` must lie in (0, 1], got {mass!r}.")
        if layer is not None and layer < 1:
            raise ConfigError(f"`layer` must be at least 1, got {layer!r}.")
        check_reading(by, alpha)
        self.mass = mass
        self.layer = layer
        self.by = by
        self.alpha = alpha

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> AdaptivePruning:
        return cls(layer=config.global_layer)

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return one_layer(self.layer, num_layers)

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        media = view.media
        ranks = read_rollout(view, self.by, self.alpha)
        # float64: a threshold must not be lost in the rounding of a long sum.
        held = ranks.double().masked_fill(~media, 0)
        best = held.sort(dim=1, descending=True, stable=True).values
        before = best.cumsum(dim=1) - best
        wanted = self.mass * held.sum(dim=1, keepdim=True)
        counts = ((before < wanted) & (best > 0)).sum(dim=1)
        return ~media | keep_top(ranks, media, counts)

    @override
    def rehearse(self, view: LayerView) -> Tensor | None:
        """As many rows as are needed at most: where all hold the same."""
        media = view.media
        counts = (self.mass * media.sum(dim=1).double()).ceil().long()
        return ~media | spread_evenly(media, torch.minimum(counts, media.sum(dim=1)))
