"""What one-layer methods with a keep ratio have in common: how many rows stay, and how evenly."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import ENTRANCE, VISUAL, LayerHook, LayerView, one_layer
from fastav_plugin.hooks.fine_pruning import keep_top
from fastav_plugin.hooks.knobs import KEEP_KNOBS, Knob, LayerKnob
from fastav_plugin.tokens import Modality

#: Of bool [B, T] candidates and int64 [B] counts, those to keep: bool [B, T].
Choice = Callable[[Tensor, Tensor], Tensor]


def spread_evenly(candidates: Tensor, counts: Tensor) -> Tensor:
    """Mark as many candidates of each row as asked for, at even distances in prompt order.

    Args:
        candidates: bool [B, T].
        counts: int64 [B], at most as many as there are candidates.

    Returns:
        bool [B, T].
    """
    total = candidates.sum(dim=1, keepdim=True).clamp(min=1)
    place = candidates.long().cumsum(dim=1) * counts[:, None]
    return candidates & (place // total > (place - counts[:, None]) // total)


def counts_of(rows: Tensor, ratio: float) -> Tensor:
    """`max(1, round(ratio * n))` for the n rows marked in each batch row; 0 for none: int64 [B]."""
    total = rows.sum(dim=1)
    # float64 on purpose: the count must be the one that Python's floats give.
    counts = (ratio * total.double()).round().long().clamp(min=1)
    return torch.minimum(counts, total)


def best_of(ranks: Tensor) -> Choice:
    """The choice of the highest `ranks` (floating point [B, T]), of equal ones the first."""
    return lambda rows, counts: keep_top(ranks, rows, counts)


def check_ratios(*ratios: float | None) -> None:
    """Raise a ConfigError for keep ratios outside (0, 1]; None is allowed."""
    for ratio in ratios:
        if ratio is not None and not 0 < ratio <= 1:
            raise ConfigError(f"A keep ratio must lie in (0, 1], got {ratio!r}.")


def media_and_ratios(
    view: LayerView, visual: float, audio: float | None
) -> list[tuple[Tensor, float]]:
    """The rows of each kind (bool [B, T]) that has a keep ratio, with it."""
    groups = [(view.mask(*VISUAL), visual)]
    if audio is not None:
        groups.append((view.mask(Modality.AUDIO), audio))
    return groups


class RatioPruning(LayerHook):
    """Keep a share of the media rows on entering one layer; a subclass says which.

    Each batch row keeps `max(1, round(ratio * n))` of its n alive image and video rows, and of
    its audio rows by a ratio of their own. The config's `visual_keep_ratio`, `audio_keep_ratio`
    and `global_layer` are the arguments.

    Args:
        visual_keep_ratio: share of image and video rows kept, in (0, 1].
        audio_keep_ratio: the same for audio rows; None keeps all audio.
        layer: the layer to enter; None means `default_layer`.
        together: let both kinds compete for the sum of their counts, rather than each for its own.
    """

    knobs: ClassVar[tuple[Knob, ...]] = (*KEEP_KNOBS, LayerKnob(field="global_layer", rank=4))
    #: Whether both kinds compete unless said otherwise.
    competes: ClassVar[bool] = False

    def __init__(
        self,
        visual_keep_ratio: float = 0.5,
        audio_keep_ratio: float | None = None,
        layer: int | None = None,
        together: bool | None = None,
    ) -> None:
        check_ratios(visual_keep_ratio, audio_keep_ratio)
        first = 1 if self.needs_scores or self.needs_rollout else ENTRANCE
        if layer is not None and layer < first:
            raise ConfigError(f"`layer` must be at least {first} here, got {layer!r}.")
        self.visual_keep_ratio = visual_keep_ratio
        self.audio_keep_ratio = audio_keep_ratio
        self.layer = layer
        self.together = self.competes if together is None else together

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> RatioPruning:
        return cls(config.visual_keep_ratio, config.audio_keep_ratio, config.global_layer)

    def default_layer(self, num_layers: int) -> int:
        """The layer entered where none is given: the middle one."""
        return num_layers // 2

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        layer = self.default_layer(num_layers) if self.layer is None else self.layer
        return one_layer(layer, num_layers)

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        return self._keep(view, self.choose(view))

    @override
    def rehearse(self, view: LayerView) -> Tensor | None:
        return self._keep(view, spread_evenly)

    @abstractmethod
    def choose(self, view: LayerView) -> Choice:
        """Says which of the candidates stay."""

    def _keep(self, view: LayerView, choose: Choice) -> Tensor:
        """Bool [B, T], True where a row goes on."""
        groups = media_and_ratios(view, self.visual_keep_ratio, self.audio_keep_ratio)
        counted = [(rows, counts_of(rows, ratio)) for rows, ratio in groups]
        if self.together and len(counted) == 2:
            (seen, first), (heard, second) = counted
            counted = [(seen | heard, first + second)]
        keep = torch.ones_like(view.alive)
        for rows, counts in counted:
            keep &= ~rows | choose(rows, counts)
        return keep
