"""Which candidates of each batch row stay, and how many."""

from collections.abc import Callable

import torch
from torch import Tensor

#: Of bool [B, T] candidates and int64 [B] counts, those that stay: bool [B, T].
Selector = Callable[[Tensor, Tensor], Tensor]


def counts_of(totals: Tensor, ratio: float) -> Tensor:
    """`max(1, round(ratio * n))` for each n, and 0 for 0: int64, as `totals`."""
    # float64 on purpose: the count must be the one that Python's floats give.
    counts = (ratio * totals.double()).round().long().clamp(min=1)
    return torch.minimum(counts, totals)


def keep_top(scores: Tensor, candidates: Tensor, counts: Tensor) -> Tensor:
    """Mark the candidates of each batch row with the highest scores; ties keep the lowest index.

    Args:
        scores: float32 [B, T].
        candidates: bool [B, T].
        counts: int64 [B], how many to mark in each batch row.

    Returns:
        bool [B, T].
    """
    ranked = torch.where(candidates, scores, float("-inf"))
    order = ranked.argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    chosen = torch.zeros_like(candidates).scatter_(1, order, ranks < counts[:, None])
    return chosen & candidates


def best_of(scores: Tensor) -> Selector:
    """The selector of the highest `scores` (floating point [B, T]), of equal ones the first."""
    return lambda candidates, counts: keep_top(scores, candidates, counts)


def spread_evenly(candidates: Tensor, counts: Tensor) -> Tensor:
    """Mark candidates of each batch row at even distances in prompt order.

    Args:
        candidates: bool [B, T].
        counts: int64 [B], at most as many as there are candidates.

    Returns:
        bool [B, T].
    """
    total = candidates.sum(dim=1, keepdim=True).clamp(min=1)
    step = candidates.long().cumsum(dim=1) * counts[:, None]
    return candidates & (step // total > (step - counts[:, None]) // total)
