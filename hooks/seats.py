"""SEATS: diverse tokens inside short windows, then budgets by attention, then no media at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.hooks.base import ENTRANCE, VISUAL, LayerHook, LayerView, register_hook
from fastav_plugin.hooks.div_prune import max_min_diversity
from fastav_plugin.hooks.fine_pruning import keep_top
from fastav_plugin.hooks.knobs import KEEP_KNOBS
from fastav_plugin.hooks.ratio_pruning import check_ratios, spread_evenly
from fastav_plugin.hooks.time_windows import time_windows
from fastav_plugin.tokens import Modality

#: Published for 28 layers: from each layer on, the share of media rows in units of the average R.
PUBLISHED = {ENTRANCE: 1.40, 16: 1.30, 18: 1.04, 20: 0.31, 23: 0.0}
_DEPTH = 28

#: A budget gives way to these ratios: R alone, for sound as well.
_KNOBS = KEEP_KNOBS[:1]


def schedule(ratio: float, num_layers: int) -> dict[int, float]:
    """Share of a prompt's media rows that goes into each place, so that layers average `ratio`.

    The published layers are scaled by depth and rounded; where two fall together the later one
    counts. What rounding does to the average is made up for by one factor on all shares (0.9996
    at 28 layers). A share cannot exceed one, so averages above about 0.7 are not reached.

    Args:
        ratio: the average R over all layers, in (0, 1].
        num_layers: decoder layers L.
    """
    shares: dict[int, float] = {}
    for layer, share in PUBLISHED.items():
        scaled = ENTRANCE if layer == ENTRANCE else round(layer / _DEPTH * num_layers)
        place = scaled if layer == ENTRANCE else min(max(1, scaled), num_layers - 1)
        shares[place] = share
    ends = [*sorted(shares)[1:], num_layers]
    spans = [end - max(0, place) for place, end in zip(sorted(shares), ends, strict=True)]
    total = sum(shares[place] * span for place, span in zip(sorted(shares), spans, strict=True))
    factor = ratio * num_layers / total
    return {place: min(1.0, factor * shares[place]) for place in sorted(shares)}


def apportion(weights: Sequence[float], sizes: Sequence[int], total: int) -> list[int]:
    """Whole numbers that add up to `total`, as near to weight x total as they can be.

    Each is at least 1, as long as the total lasts, and at most its size; what is over goes where
    a number is farthest below its share.

    Args:
        weights: shares, which add up to one.
        sizes: the most each may be.
        total: at most the sum of all sizes.
    """
    wanted = [weight * total for weight in weights]
    least = 1 if total >= len(sizes) else 0
    given = [
        min(size, max(min(least, size), math.floor(share)))
        for share, size in zip(wanted, sizes, strict=True)
    ]
    while (missing := total - sum(given)) != 0:
        step = 1 if missing > 0 else -1
        open_ = [
            index
            for index, size in enumerate(sizes)
            if (given[index] < size if step > 0 else given[index] > min(least, size))
        ]
        chosen = max(open_, key=lambda index: (step * (wanted[index] - given[index]), -index))
        given[chosen] += step
    return given


@register_hook
class SeatsEntrance(LayerHook):
    """SEATS, before layer 0: max-min diversity inside windows of two time grids.

    Each modality keeps `1.4 R` of its rows, shared out among its windows by their size.
    Distance is plain, `1 - cosine`: the authors weigh it by the encoder's attention, which a
    view does not show.

    Args:
        keep_ratio: R, the share of media rows kept in the mean over all layers, in (0, 1].

    Reference: SEATS (arXiv 2605.20035).
    """

    name = "seats_entrance"
    knobs = _KNOBS

    def __init__(self, keep_ratio: float = 0.25) -> None:
        check_ratios(keep_ratio)
        self.keep_ratio = keep_ratio

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> SeatsEntrance:
        return cls(config.visual_keep_ratio)

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({ENTRANCE})

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        keep = ~view.media
        windows = time_windows(view)
        for sample, kind, total in self._totals(view):
            numbers, sizes = torch.unique(windows[sample][kind], return_counts=True)
            counts = sizes.tolist()
            shares = apportion([size / sum(counts) for size in counts], counts, total)
            for number, share in zip(numbers, shares, strict=True):
                rows = (kind & (windows[sample] == number)).nonzero().squeeze(1)
                picks = max_min_diversity(view.hidden_states[sample, rows], share)
                keep[sample, rows[picks]] = True
        return keep

    @override
    def rehearse(self, view: LayerView) -> Tensor | None:
        keep = ~view.media
        for sample, kind, total in self._totals(view):
            count = torch.tensor([total], device=kind.device)
            keep[sample] |= spread_evenly(kind[None], count)[0]
        return keep

    def _totals(self, view: LayerView) -> list[tuple[int, Tensor, int]]:
        """Batch row, rows of one modality (bool [T]), and how many of them stay."""
        share = schedule(self.keep_ratio, view.num_layers)[ENTRANCE]
        found = []
        for kinds in (VISUAL, (Modality.AUDIO,)):
            rows = view.mask(*kinds)
            for sample, count in enumerate(rows.sum(dim=1).tolist()):
                if count:
                    found.append((sample, rows[sample], max(1, round(share * count))))
        return found


@register_hook
class SeatsStages(LayerHook):
    """SEATS, inside the network: budgets of windows by attention, and no media in the last layers.

    On entering layers 16, 18 and 20 of 28, scaled by depth elsewhere, a window's weight is the
    mean of `softmax(mean score / temperature)` over the windows' visual rows and over their
    audio rows. It is the window's share of the rows that stay, which is split between the two
    kinds by weight x count; inside, the best scored stay. On entering layer 23 all media go.
    Scores are those of the layer just left, mean over heads. Keys and values that earlier layers
    hold stay, where the authors delete them.

    Args:
        keep_ratio: R, the share of media rows kept in the mean over all layers, in (0, 1].
        temperature: of both softmaxes.

    Reference: SEATS (arXiv 2605.20035).
    """

    name = "seats_stages"
    needs_scores = True
    may_empty = True
    knobs = _KNOBS

    def __init__(self, keep_ratio: float = 0.25, temperature: float = 0.1) -> None:
        check_ratios(keep_ratio)
        if not temperature > 0:
            raise ConfigError(f"`temperature` must be above 0, got {temperature!r}.")
        self.keep_ratio = keep_ratio
        self.temperature = temperature

    @classmethod
    @override
    def from_config(cls, config: FastAVConfig) -> SeatsStages:
        return cls(config.visual_keep_ratio)

    @override
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset(schedule(self.keep_ratio, num_layers)) - {ENTRANCE}

    @override
    def __call__(self, view: LayerView) -> Tensor | None:
        assert view.scores is not None
        keep = ~view.media
        windows = time_windows(view)
        for sample, total in enumerate(self._totals(view)):
            if total:
                keep[sample] |= self._best(view, windows[sample], sample, total)
        return keep

    @override
    def rehearse(self, view: LayerView) -> Tensor | None:
        totals = torch.tensor(self._totals(view), device=view.media.device)
        return ~view.media | spread_evenly(view.media, totals)

    def _totals(self, view: LayerView) -> list[int]:
        """Media rows that each batch row keeps; a share of those alive, which is what is known."""
        shares = schedule(self.keep_ratio, view.num_layers)
        before = max(place for place in shares if place < view.layer)
        share = shares[view.layer] / shares[before]
        counts: list[int] = view.media.sum(dim=1).tolist()
        return [count and max(1, round(share * count)) if share else 0 for count in counts]

    def _best(self, view: LayerView, window: Tensor, sample: int, total: int) -> Tensor:
        """Bool [T], the media rows of one batch row that stay."""
        assert view.scores is not None
        scores = view.scores[sample]
        kinds = [view.mask(*VISUAL)[sample], view.mask(Modality.AUDIO)[sample]]
        numbers = torch.unique(window[kinds[0] | kinds[1]])
        members = numbers[:, None] == window  # [windows, T]
        counts = torch.stack([(members & kind).sum(dim=1) for kind in kinds])
        sums = torch.stack([((members & kind) * scores).sum(dim=1) for kind in kinds])
        means = (sums / counts.clamp(min=1)).masked_fill(counts == 0, float("-inf"))
        present = counts.sum(dim=1) > 0
        weights = torch.softmax(means[present].double() / self.temperature, dim=1)
        sizes: list[list[int]] = counts.T.tolist()
        budgets = apportion(weights.mean(dim=0).tolist(), [sum(pair) for pair in sizes], total)
        split = torch.zeros_like(counts, dtype=torch.float64)
        split[present] = weights * counts[present]
        keep = torch.zeros_like(kinds[0])
        for number, budget in enumerate(budgets):
            pair = split[:, number]
            seen = min(max(0, round(float(budget * pair[0] / pair.sum()))), sizes[number][0])
            seen = max(seen, budget - sizes[number][1])
            for kind, count in zip(kinds, (seen, budget - seen), strict=True):
                rows = kind & members[number]
                chosen = keep_top(scores[None], rows[None], torch.tensor([count]).to(rows.device))
                keep |= chosen[0]
        return keep
