"""Density peaks: picks that have many near candidates and lie far from every denser one."""

import torch
from torch import Tensor

from fastav_plugin.functional.cosines import Cosines
from fastav_plugin.functional.float32 import in_float32

#: Candidates whose distances are held at a time: what they need stays in a CPU's cache.
BLOCK = 64


@in_float32
def density_peaks(
    features: Tensor,
    places: Tensor,
    count: int,
    *,
    place_weight: float = 0.2,
    neighbours: int = 7,
) -> Tensor:
    """Pick the `count` candidates with the largest product of density and separation.

    The distance between two is `1 - cosine` plus `place_weight` times that of their places. A
    candidate's density is `exp(-mean of the squared distances to its nearest others)`, its
    separation the distance to the nearest denser one, for the densest the distance to the
    farthest. Of equally dense ones the first counts as denser, so that of copies one is a peak.

    Args:
        features: [M, d].
        places: float [M, A], coordinates such as time, line and column. Each axis is scaled to
            [0, 1]; the distance is Euclidean, divided by the square root of how many axes differ.
        count: picks, in [0, M].
        place_weight: of the distance of places.
        neighbours: nearest others that make the density; all where there are fewer.

    Returns:
        int64 [count], in falling order of the product; ties keep the lowest index.
    Reference: OmniPack (arXiv 2608.03812); Rodriguez and Laio (Science 344, 2014).
    """
    cosines = Cosines(features)
    total = cosines.total
    if total < 2:
        return torch.arange(count, device=features.device)
    axes = scaled_places(places).T.contiguous()  # [A', M]
    near = min(neighbours, total - 1)
    density = torch.empty_like(cosines.present)
    for rows, block in cosines.blocks(BLOCK):
        distances = _distances(block, rows, axes, place_weight)
        nearest = distances.topk(near, dim=1, largest=False, sorted=False).values
        density[rows] = nearest.square().mean(dim=1).neg().exp()
    order = density.argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(total, device=order.device))
    separation = torch.empty_like(density)
    for rows, block in cosines.blocks(BLOCK):
        distances = _distances(block, rows, axes, place_weight)
        denser = rank < rank[rows, None]
        separation[rows] = torch.where(denser, distances, float("inf")).amin(dim=1)
    peak = order[:1]
    farthest = _distances(cosines.rows(peak), None, axes, place_weight, axes[:, peak])
    farthest[0, peak] = 0
    separation[peak] = farthest.amax()
    return (density * separation).argsort(descending=True, stable=True)[:count]


def scaled_places(places: Tensor) -> Tensor:
    """Places whose Euclidean distances are at most 1: float32 [M, A'], axes that differ alone."""
    places = places.float()
    span = places.amax(dim=0) - places.amin(dim=0)
    used = span > 0
    axes: Tensor = ((places - places.amin(dim=0)) / span)[:, used]
    return axes / float(max(1, axes.shape[1]) ** 0.5)


def _distances(
    cosines: Tensor, rows: slice | None, axes: Tensor, weight: float, from_: Tensor | None = None
) -> Tensor:
    """Float32 [n, M], distances of some candidates to all, infinite to themselves.

    Args:
        cosines: float32 [n, M].
        rows: which candidates they are; None where `from_` is given.
        axes: float32 [A', M], scaled places.
        weight: of the distance of places.
        from_: float32 [A', n], their places, if they are not `rows`.
    """
    distances = 1 - cosines
    here = axes[:, rows] if from_ is None else from_
    if len(axes) == 1:
        distances.add_((here[0, :, None] - axes[0]).abs_(), alpha=weight)
    elif len(axes) > 1:
        squares = torch.zeros_like(distances)
        for mine, all_ in zip(here, axes, strict=True):
            squares.add_((mine[:, None] - all_).square_())
        distances.add_(squares.sqrt_(), alpha=weight)
    if rows is not None:
        index = torch.arange(len(distances), device=distances.device)
        distances[index, index + rows.start] = float("inf")
    return distances
