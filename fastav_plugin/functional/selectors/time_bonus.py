"""A bonus for moments of which nothing is kept yet, so that scores alone do not empty them."""

import torch
from torch import Tensor


def with_time_bonus(scores: Tensor, candidates: Tensor, moment: Tensor, bonus: float) -> Tensor:
    """Scores scaled to [0, 1], plus `bonus / (1 + candidates of the moment that rank higher)`.

    Taking the highest sums is the same as picking one by one with a bonus of
    `bonus / (1 + picks of the moment so far)`: within a moment picks follow the scores, and sums
    fall from each to the next.

    Args:
        scores: float32 [B, T].
        candidates: bool [B, T]; what is returned for others means nothing.
        moment: int64 [B, T], frames or the like; each batch row's are its own.
        bonus: at least 0; with 0 the order is that of the scores.

    Returns:
        float32 [B, T].
    """
    low = torch.where(candidates, scores, float("inf")).amin(dim=1, keepdim=True)
    high = torch.where(candidates, scores, float("-inf")).amax(dim=1, keepdim=True)
    scaled = torch.where(high > low, (scores - low) / (high - low), 0.0)
    # Sorted by moment, and inside it by score; others have a moment that nothing else has.
    last = torch.iinfo(moment.dtype).max
    order = torch.where(candidates, scores, float("-inf")).argsort(
        dim=1, descending=True, stable=True
    )
    moments = torch.where(candidates, moment, last).gather(1, order)
    moments, by_moment = moments.sort(dim=1, stable=True)
    order = order.gather(1, by_moment)
    place = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    begins = torch.ones_like(candidates)
    begins[:, 1:] = moments[:, 1:] != moments[:, :-1]
    rank = place - torch.where(begins, place, 0).cummax(dim=1).values
    higher = torch.empty_like(order).scatter_(1, order, rank)
    return scaled + bonus / (1 + higher)
