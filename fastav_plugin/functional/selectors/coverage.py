"""Greedy facility location: picks that together are near to as many candidates as they can be."""

import torch
from torch import Tensor

from fastav_plugin.functional.cosines import Cosines
from fastav_plugin.functional.float32 import in_float32

#: Gains that differ by this share are equal: the rounding of float32.
ROUNDING = 1e-6

#: Gain per candidate up to which all are covered: what remains is the rounding of cosines.
COVERED = 1e-7

#: Candidates whose cover is updated at a time: what they need stays in a CPU's cache.
BLOCK = 128


@in_float32
def covering_picks(features: Tensor, count: int, weights: Tensor | None = None) -> Tensor:
    """Pick `count` candidates, each the one that adds most to the coverage of all.

    The cover of a candidate is its largest cosine to a pick, at least 0. A candidate's gain is the
    sum, over all, of how much it would raise their cover; it is multiplied by its weight. Where
    nothing is left to cover, weights decide. Ties, up to the rounding of float32, go to the lowest
    index.

    A gain changes only where a pick raised a cover, so each step updates all gains by the rows of
    those candidates alone. Some `M ln(count)` rows are read where picks cover candidates at
    random, instead of the `count * M` of the formula. Gains are summed in float64.

    Args:
        features: [M, d].
        count: picks, in [0, M].
        weights: [M], at least 0; None means ones.

    Returns:
        int64 [count], in pick order.
    Reference: SCOPE (arXiv 2510.24214).
    """
    cosines = Cosines(features)
    cover = torch.zeros_like(cosines.present)
    gains = torch.zeros_like(cover, dtype=torch.float64)
    for _, block in cosines.blocks(BLOCK):
        gains += block.clamp(min=0).sum(dim=0, dtype=torch.float64)
    factors = torch.ones_like(gains) if weights is None else weights.double()
    picked = torch.zeros_like(cover, dtype=torch.bool)
    picks = torch.empty(count, dtype=torch.int64, device=cover.device)
    for step in range(count):
        gains.masked_fill_(picked, 0)
        covered = gains.amax() <= COVERED * cosines.total
        worth = torch.where(covered, factors, gains.clamp(min=0).mul_(factors))
        worth.masked_fill_(picked, float("-inf"))
        best = worth.amax()
        pick = (worth >= best - best.abs() * ROUNDING).to(torch.uint8).argmax()
        picks[step] = pick
        picked[pick] = True
        _cover(cosines, pick, cover, gains)
    return picks


def _cover(cosines: Cosines, pick: Tensor, cover: Tensor, gains: Tensor) -> None:
    """Raise the covers by a pick and lower the gains by what it took, both in place."""
    row = cosines.rows(pick[None])[0]
    raised = (row > cover).nonzero().squeeze(1)
    for part in torch.split(raised, BLOCK):
        before, after = cover[part, None], row[part, None]
        taken = torch.clamp(cosines.rows(part), before, after).sub_(before)
        gains -= taken.sum(dim=0, dtype=torch.float64)
    torch.maximum(cover, row, out=cover)
