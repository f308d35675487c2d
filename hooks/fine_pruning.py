"""FastAV's fine cut: at every later layer, drop the media rows the last query cares least for."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import LayerHook, LayerView, register_hook
from fastav_plugin.hooks.knobs import RatioKnob


def keep_top(scores: Tensor, candidates: Tensor, counts: Tensor) -> Tensor:
    """Mark the best-scored candidates of each row; ties keep the lowest index.

    Args:
        scores: float32 [B, T].
        candidates: bool [B, T], rows that compete.
        counts: int64 [B], how many to mark in each row.

    Returns:
        bool [B, T].
    """
    ranked = torch.where(candidates, scores, float("-inf"))
    order = ranked.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    chosen = torch.zeros_like(candidates).scatter_(1, order, places < counts[:, None])
    return chosen & candidates


@register_hook
class FinePruning(LayerHook):
    """Drop a share of the alive media rows on entering each layer after the global cut.

    Each batch row keeps `floor((1 - drop_ratio) * n)` of its n alive media rows, at least one:
    those with the highest scores of the layer just left.

    Args:
        drop_ratio: FastAV's P, in [0, 1).
        after_layer: layer of the global cut; the first fine cut is one layer later. None means
            L // 2.

    Reference: FastAV, section 2.2.
    """

    name = "fine_pruning"
    needs_scores = True
    knobs = (RatioKnob(field="fine_drop_ratio", rank=2, loosest=0, usual=0.5, strictest=0.95),)

    def __init__(self, drop_ratio: float = 0.2, after_layer: int | None = None):
        if not 0 <= drop_ratio < 1:
            raise ConfigError(f"`drop_ratio` must lie in [0, 1), got {drop_ratio!r}.")
        self.drop_ratio = drop_ratio
        self.after_layer = after_layer

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> FinePruning:
        return cls(config.fine_drop_ratio, config.global_layer)

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        if self.drop_ratio == 0:
            return frozenset()
        after = num_layers // 2 if self.after_layer is None else self.after_layer
        return frozenset(range(after + 1, num_layers))

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        assert view.scores is not None
        media = view.media
        # float64 on purpose: the count must be the one that Python's floats give.
        counts = ((1 - self.drop_ratio) * media.sum(dim=1).double()).floor().long().clamp(min=1)
        return ~media | keep_top(view.scores, media, counts)
