"""Picks of a determinantal point process: relevant, and as little in one plane as they can be."""

import torch
from torch import Tensor

from fastav_plugin.functional.cosines import Cosines
from fastav_plugin.functional.float32 import in_float32

#: Share of a vector outside of what is picked, squared, that counts as none: float32's rounding.
SPANNED = 1e-5

#: Candidates among which the next picks are sought.
SHORTLIST = 256


@in_float32
def determinantal_picks(features: Tensor, relevance: Tensor, count: int) -> Tensor:
    """Pick `count` candidates, each the one that adds most to the determinant of the kernel.

    The kernel is `diag(r) cos diag(r)`. What a candidate adds is its relevance squared times its
    residual: the squared length of its unit vector outside of the span of the picks. An
    incremental Cholesky factorization of the cosines gives residuals in O(M count^2). Where
    nothing adds any more, as with more picks than dimensions, the most relevant follow. Ties go to
    the lowest index.

    Residuals only ever shrink. So the picks among the best candidates, the shortlist, are those
    among all for as long as they add as much as the best of the others did when the round began;
    then the residuals of all are updated at once, by one product of matrices.

    Args:
        features: [M, d].
        relevance: [M], at least 0.
        count: picks, in [0, M].

    Returns:
        int64 [count], in pick order.
    Reference: CDPruner (arXiv 2506.10967); the greedy algorithm is that of Chen, Zhang and Zhou
    (NeurIPS 2018).
    """
    cosines = Cosines(features)
    squares = relevance.float() ** 2
    residuals = cosines.present.clone()
    factor = residuals.new_empty((count, cosines.total))
    picked = torch.zeros_like(residuals, dtype=torch.bool)
    picks: list[Tensor] = []
    found = 0
    while found < count:
        worth = (squares * residuals).masked_fill_(picked, float("-inf"))
        order = worth.argsort(descending=True, stable=True)
        if worth[order[0]] <= 0:
            rest = squares.masked_fill(picked, float("-inf")).argsort(descending=True, stable=True)
            picks.append(rest[: count - found])
            break
        shortlist = order[:SHORTLIST].sort().values
        others = order[SHORTLIST : SHORTLIST + 1]
        bound = worth[others] if len(others) else worth.new_zeros(1)
        before = factor[:found]
        near = before[:, shortlist]
        local = cosines.between(shortlist).addmm_(near.T, near, alpha=-1)
        local.diagonal().copy_(residuals[shortlist])
        steps = min(len(shortlist), count - found)
        walked, lines, heights = _factorize(local, squares[shortlist], steps)
        reached = shortlist[walked]
        # At the bound, those that came from above it may have a lower index among the others.
        sure = (heights > bound) | ((heights == bound) & (worth[reached] == bound))
        sure &= heights > 0
        sure[0] = True
        kept = int(sure.long().cumprod(dim=0).sum())
        chosen = reached[:kept]
        made = cosines.rows(chosen).addmm_(before[:, chosen].T, before, alpha=-1)
        triangle = lines[:kept, walked[:kept]].triu().T  # [kept, kept], lower
        made = torch.linalg.solve_triangular(triangle, made, upper=False)
        factor[found : found + kept] = made
        residuals -= made.square_().sum(dim=0)
        residuals.masked_fill_(residuals <= SPANNED, 0)
        picked[chosen] = True
        picks.append(chosen)
        found += kept
    return torch.cat(picks) if picks else torch.empty(0, dtype=torch.int64, device=picked.device)


def _factorize(residual: Tensor, squares: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """The greedy picks among few candidates, by a factorization with pivots.

    Args:
        residual: float32 [S, S], what the earlier picks leave of the cosines; overwritten.
        squares: float32 [S], relevance squared.
        steps: picks, at most S.

    Returns:
        int64 [steps], the picks; float32 [steps, S], the lines of the Cholesky factor; float32
        [steps], what each pick added to the determinant, 0 where nothing does.
    """
    size = len(residual)
    picks = torch.empty(steps, dtype=torch.int64, device=residual.device)
    lines, heights = residual.new_empty((steps, size)), residual.new_empty(steps)
    closed = torch.zeros_like(squares)
    diagonal = residual.diagonal()
    for step in range(steps):
        worth = torch.where(diagonal > SPANNED, diagonal * squares, 0.0).sub_(closed)
        height, pick = worth.max(dim=0)
        picks[step], heights[step] = pick, height
        line = residual[pick]
        line = line / line[pick].clamp(min=SPANNED).sqrt()
        lines[step] = line
        residual.addr_(line, line, alpha=-1)
        closed[pick] = float("inf")
    return picks, lines, heights
