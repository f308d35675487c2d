"""Picks by duplication: those least similar to a few pivots."""

import torch
from torch import Tensor

from fastav_plugin.functional.cosines import unit_vectors
from fastav_plugin.functional.float32 import in_float32


@in_float32
def least_similar_picks(
    features: Tensor, count: int, *, pivots: int, beside: Tensor | None = None
) -> Tensor:
    """Pick the pivots, then the candidates whose largest cosine to any pivot is smallest.

    The pivots are the candidates with the largest norms. O(M * pivots): no two others are
    compared. Ties keep the lowest index; a vector of zeros has cosine 0.

    Args:
        features: [M, d].
        count: picks, in [0, M], pivots among them.
        pivots: how many candidates are pivots, at least 0; at most `count` are.
        beside: [P, d], more pivots that are no candidates, such as text tokens.

    Returns:
        int64 [count]: the pivots by falling norm, then the others by rising similarity.
    Reference: DART (arXiv 2502.11494).
    """
    upcast = features.to(torch.float32, copy=True)
    norms = torch.linalg.vector_norm(upcast, dim=1)
    chosen = norms.argsort(descending=True, stable=True)[: min(pivots, count)]
    units = unit_vectors(upcast)
    compared = units[chosen]
    if beside is not None:
        compared = torch.cat([compared, unit_vectors(beside.to(torch.float32, copy=True))])
    similarity = torch.full_like(norms, -1)
    if len(compared):
        # NaN would go behind the pivots, which would then be picked twice.
        similarity = (units @ compared.T).amax(dim=1).nan_to_num_(nan=1.0)
    similarity[chosen] = float("inf")
    rest = similarity.argsort(stable=True)[: count - len(chosen)]
    return torch.cat([chosen, rest])


def largest_norms(features: Tensor, count: int) -> Tensor:
    """int64 [min(count, M)], the vectors with the largest norms; ties keep the lowest index."""
    norms: Tensor = torch.linalg.vector_norm(features.float(), dim=-1)
    return norms.argsort(descending=True, stable=True)[:count]
