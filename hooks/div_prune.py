"""DivPrune: keep a maximally diverse subset of the visual tokens before the first layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import ENTRANCE, VISUAL, LayerHook, LayerView, register_hook
from fastav_plugin.hooks.knobs import KEEP_KNOBS
from fastav_plugin.tokens import Modality

#: Picks `count` of the rows of [M, d]: int64 [count].
Selection = Callable[[Tensor, int], Tensor]

#: Largest candidate count whose distances are held as one matrix (1 GiB in float32).
MATRIX_LIMIT = 16384


def max_min_diversity(features: Tensor, count: int) -> Tensor:
    """Pick `count` rows so that the smallest distance between picks stays as large as it can.

    Distance is `1 - cosine`, computed in float32 whatever the dtype. The first pick is the row
    whose nearest other row is farthest; each next pick is the row farthest from the set picked
    so far. Ties go to the lowest index, no row is picked twice, a zero row is at distance 1 from
    every other. O(count * M) after one M x M product.

    Args:
        features: [M, d].
        count: picks, in [0, M].

    Returns:
        int64 [count], in pick order.

    Raises:
        ConfigError: count out of range or features not [M, d].
    Reference: DivPrune (arXiv 2503.02175), section 3.
    """
    if features.dim() != 2:
        raise ConfigError(f"`features` must be [M, d], got shape {tuple(features.shape)}.")
    total = features.shape[0]
    if not 0 <= count <= total:
        raise ConfigError(f"`count` must lie in [0, {total}], got {count}.")
    picks = torch.empty(count, dtype=torch.int64, device=features.device)
    if count == 0:
        return picks
    units = _unit_rows(features)
    # In place, because a second matrix would double the peak of memory.
    matrix = (units @ units.T).neg_().add_(1) if total <= MATRIX_LIMIT else None
    pick = _most_isolated(units, matrix)
    nearest = torch.full((total,), float("inf"), device=features.device)
    for step in range(count):
        if step:
            pick = nearest.argmax(dim=0, keepdim=True)
        picks[step : step + 1] = pick
        # index_select, because indexing with a scalar tensor would wait for the device.
        chosen = (units if matrix is None else matrix).index_select(0, pick)
        distances = 1 - (units @ chosen.T).T if matrix is None else chosen
        # fmin: a pick stays at -inf for good, and NaN features cannot bring it back.
        torch.fmin(nearest, distances[0], out=nearest)
        nearest.index_fill_(0, pick, float("-inf"))
    return picks


def _unit_rows(features: Tensor) -> Tensor:
    """Rows of length one in float32; zero rows stay zero."""
    upcast = features.float()
    norms: Tensor = torch.linalg.vector_norm(upcast, dim=1, keepdim=True)
    return upcast / norms.masked_fill(norms == 0, 1)


def _most_isolated(units: Tensor, matrix: Tensor | None) -> Tensor:
    """Index (int64 [1]) of the row whose nearest other row is farthest."""
    total = units.shape[0]
    smallest = []
    for start in range(0, total, 1024):
        stop = min(start + 1024, total)
        block = matrix[start:stop] if matrix is not None else 1 - units[start:stop] @ units.T
        itself = torch.arange(start, stop, device=units.device)[:, None]
        others = block.scatter(1, itself, float("inf"))
        smallest.append(others.amin(dim=1))
    return torch.cat(smallest).argmax(dim=0, keepdim=True)


@register_hook
class DivPrune(LayerHook):
    """Max-min diversity over each sample's visual rows, all images and frames jointly.

    A row with M visual tokens keeps `max(1, round(ratio * M))` of them. Rows that separate image
    lines (`image_newline`) count as visual tokens, as published.

    Args:
        visual_keep_ratio: share of image and video tokens kept, in (0, 1].
        audio_keep_ratio: the same for audio tokens, on their own; None keeps all audio.

    Reference: DivPrune (arXiv 2503.02175).
    """

    name = "div_prune"
    knobs = KEEP_KNOBS

    def __init__(self, visual_keep_ratio: float = 0.5, audio_keep_ratio: float | None = None):
        for ratio in (visual_keep_ratio, audio_keep_ratio):
            if ratio is not None and not 0 < ratio <= 1:
                raise ConfigError(f"A keep ratio must lie in (0, 1], got {ratio!r}.")
        self.visual_keep_ratio = visual_keep_ratio
        self.audio_keep_ratio = audio_keep_ratio

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> DivPrune:
        return cls(config.visual_keep_ratio, config.audio_keep_ratio)

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({ENTRANCE})

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        return self._keep(view, max_min_diversity)

    @override
    def rehearse(self, view: LayerView) -> Tensor | None:
        return self._keep(view, _spread_evenly)

    def _keep(self, view: LayerView, select: Selection) -> Tensor:
        keep = torch.ones_like(view.alive)
        groups = [(view.mask(*VISUAL), self.visual_keep_ratio)]
        if self.audio_keep_ratio is not None:
            groups.append((view.mask(Modality.AUDIO), self.audio_keep_ratio))
        for rows, ratio in groups:
            if ratio != 1:
                _keep_selected(keep, view.hidden_states, rows, ratio, select)
        return keep


def _keep_selected(
    keep: Tensor, features: Tensor, rows: Tensor, ratio: float, select: Selection
) -> None:
    """Clear in `keep` (bool [B, T]) the candidate rows that are not picked."""
    for sample in range(rows.shape[0]):
        candidates = rows[sample].nonzero().squeeze(1)
        total = candidates.shape[0]
        if total == 0:
            continue
        picks = select(features[sample, candidates], max(1, round(ratio * total)))
        keep[sample, candidates] = False
        keep[sample, candidates[picks]] = True


def _spread_evenly(features: Tensor, count: int) -> Tensor:
    """int64 [count]: as many picks as by diversity, which of them is meant by no feature."""
    return torch.arange(count, device=features.device) * features.shape[0] // count
