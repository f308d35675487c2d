"""Max-min diversity: picks that lie as far from each other as they can."""

import functools
import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fastav_plugin.errors import ConfigError, in_short
from fastav_plugin.functional.cosines import (
    MATRIX_LIMIT,
    ROUNDING,
    TILE,
    tile_pairs,
    unit_vectors,
    write_symmetric,
)
from fastav_plugin.functional.float32 import in_float32, inner_products, pack

logger = logging.getLogger(__name__)

#: Candidates among which the next picks are sought where there is no matrix: at most and at least.
SHORTLIST = 1024
SHORTEST = 64


def max_min_diversity(features: Tensor, count: int, *, weights: Tensor | None = None) -> Tensor:
    """Pick `count` candidates so that the smallest distance between picks stays as large as it can.

    Distance is `1 - cosine`, computed in float32 whatever the dtype. The first pick is the one
    whose nearest other is farthest; each next pick is the one farthest from the set picked so
    far. Ties go to the lowest index, copies at distance 0 among them; none is picked twice, a
    vector of zeros is at distance 1 from every other. O(count * M) after the products of all
    pairs, each made once.

    Memory: the features once more in float32, and 4 M^2 bytes for all distances; above
    `MATRIX_LIMIT` candidates 4 `SHORTLIST`^2 bytes, at up to twice the time.

    Args:
        features: [M, d], one vector per candidate.
        count: picks, in [0, M].
        weights: float32 [M], above 0; the distance from a candidate to the picks, or to the
            nearest other, is multiplied by its weight. None means ones, as published.

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
    group = torch.arange(total, device=features.device)[None]
    return pick_in_groups(features, group, None, count, weights)[0]


@in_float32
def pick_in_groups(
    features: Tensor,
    groups: Tensor,
    valid: Tensor | None,
    count: int,
    weights: Tensor | None = None,
) -> Tensor:
    """`max_min_diversity` within each group of candidates, all groups in step.

    On a CPU products are made tile by tile, since one tile's fill it; elsewhere all at once. Each
    of the `count` steps that follow is taken by all groups at once and waits for no device; an
    NVIDIA GPU takes all of them in one kernel.

    Args:
        features: [R, d].
        groups: int64 [N, M], indices into `features`; a group of fewer than M points anywhere else.
        valid: bool [N, M], False where a group is over; None where none is before M.
        count: picks per group, in [0, M]. Those beyond a group's size mean nothing.
        weights: float32 [R], as in `max_min_diversity`; None means ones.

    Returns:
        int64 [N, count], indices into the group, in pick order.
    """
    number, total = groups.shape
    if count == 0:
        return groups.new_zeros((number, 0))
    # Infinitely far from no pick at all; what cannot be picked is at -inf for good.
    nearest = torch.full(groups.shape, float("inf"), device=features.device)
    if valid is not None:
        nearest.masked_fill_(~valid, float("-inf"))
    picks = []
    if total > MATRIX_LIMIT:
        for group, row in zip(groups, nearest, strict=True):
            picks.append(_pick_in_rounds(features, group[row > 0], count, weights))
    else:
        at_once = max(1, MATRIX_LIMIT**2 // total**2)
        for part, rows in zip(
            torch.split(groups, at_once), torch.split(nearest, at_once), strict=True
        ):
            distances = _distances(features, part)
            distances.masked_fill_((rows < 0)[:, None], float("inf"))
            first = torch.fmin(distances.amin(dim=2), rows)
            if weights is not None:
                factors = weights[part]
                first *= factors
                # By column: the distance from a candidate to each pick is the candidate's.
                distances.mul_(factors[:, None])
            picks.append(_walk(distances, rows, count, first.argmax(dim=1))[0])
    return torch.cat(picks)


def _walk(
    distances: Tensor, nearest: Tensor, steps: int, first: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Pick the candidate farthest from the picks, `steps` times.

    Args:
        distances: float32 [N, M, M].
        nearest: float32 [N, M], distance to the picks so far, -inf for what cannot be picked.
        steps: how often.
        first: int64 [N], the first pick if it is known.

    Returns:
        int64 [N, steps], the picks; float32 [N, steps], `nearest` of each when picked.
    """
    if nearest.is_cuda and (kernel := _kernel(nearest.device)) is not None:
        return kernel(distances, nearest, steps, first)
    number, total = nearest.shape
    picks = torch.empty((number, steps), dtype=torch.int64, device=nearest.device)
    heights = nearest.new_empty((number, steps))
    nearest = nearest.clone()
    rows = distances.view(number * total, total)
    offsets = torch.arange(number, device=nearest.device) * total
    for step in range(steps):
        pick = nearest.argmax(dim=1) if step or first is None else first
        picks[:, step] = pick
        # Indices of tensors, because one of numbers would wait for the device.
        heights[:, step] = nearest.gather(1, pick[:, None])[:, 0]
        # fmin: a pick stays at -inf for good, and NaN features cannot bring it back.
        torch.fmin(nearest, rows.index_select(0, pick + offsets), out=nearest)
        nearest.scatter_(1, pick[:, None], float("-inf"))
    return picks, heights


@functools.cache
def _kernel(device: torch.device) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """All steps as one kernel for NVIDIA GPUs; None where triton cannot make it.

    Triton may be missing, need a C compiler that is not there, or not know the GPU.
    """
    if torch.version.hip is not None:
        return None
    try:
        from fastav_plugin.functional.diversity_triton import walk_in_one_kernel

        single = torch.zeros((1, 1, 1), device=device)
        walk_in_one_kernel(single, single[0], 1, None)
    except Exception as error:
        first = in_short(error)
        logger.warning("DivPrune's steps run one by one on %s: %s", device, first)
        return None
    return walk_in_one_kernel


def _pick_in_rounds(features: Tensor, group: Tensor, count: int, weights: Tensor | None) -> Tensor:
    """int64 [1, count], the picks of one group, without the matrix of all distances.

    A distance to the picks only ever shrinks. So the picks among the farthest candidates, the
    shortlist, are those among all for as long as they lie as far as the best of the others did
    when the round began; then the distances to them are made for all at once. Where few picks of
    a round could be kept, as among many copies, the next has a shorter list.
    """
    picks: list[Tensor] = []
    tiles = [pack(unit_vectors(features[part])) for part in torch.split(group, TILE)]
    nearest = torch.full(group.shape, float("inf"), device=features.device)
    factors = 1 if weights is None else weights[group]
    found, size = 0, SHORTLIST
    while found < min(count, len(group)):
        if found == 0:
            others = _nearest_others(tiles, len(group)) * factors
            chosen = others.argmax(dim=0, keepdim=True)
        else:
            order = nearest.argsort(descending=True, stable=True)
            shortlist, others = order[:size].sort().values, order[size:]
            bound = nearest[others[:1]] if len(others) else nearest.new_tensor([-float("inf")])
            local = _distances(features, group[shortlist][None])
            if weights is not None:
                local.mul_(weights[group[shortlist]])
            steps = min(len(shortlist), count - found)
            walked, heights = _walk(local, nearest[shortlist][None], steps)
            reached = shortlist[walked[0]]
            # At the bound, those that came from above it may have a lower index among the others.
            sure = (heights[0] > bound) | ((heights[0] == bound) & (nearest[reached] == bound))
            sure[0] = True
            kept = int(sure.long().cumprod(dim=0).sum())
            chosen = reached[:kept]
            size = min(SHORTLIST, max(SHORTEST, 2 * kept))
        found_units = pack(unit_vectors(features[group[chosen]]))
        reach = [_to_distances(inner_products(found_units, tile)).amin(dim=0) for tile in tiles]
        torch.fmin(nearest, torch.cat(reach) * factors, out=nearest)
        nearest.index_fill_(0, chosen, float("-inf"))
        picks.append(chosen)
        found += len(chosen)
    picks.append(group.new_zeros(count - found))
    return torch.cat(picks)[None]


def _to_distances(cosines: Tensor) -> Tensor:
    """`1 - cosine` in the memory of the cosines, none where vectors differ by rounding alone."""
    return torch.threshold_(cosines.neg_().add_(1), ROUNDING, 0.0)


def _pairs(tiles: list[tuple[Tensor, ...]]) -> Iterator[tuple[slice, slice, Tensor]]:
    """Distances of all pairs of tiles, each pair once, infinite from a candidate to itself."""
    for rows, columns, cosines in tile_pairs(tiles):
        distances = _to_distances(cosines)
        if rows == columns:
            distances.fill_diagonal_(float("inf"))
        yield rows, columns, distances


def _distances(features: Tensor, groups: Tensor) -> Tensor:
    """float32 [N, M, M], `1 - cosine` within each group, infinite from a candidate to itself."""
    if features.device.type != "cpu":
        return _distances_at_once(features, groups)
    number, total = groups.shape
    made = torch.empty((number, total, total), device=features.device)
    for group, matrix in zip(groups, made, strict=True):
        tiles = [pack(unit_vectors(features[part])) for part in torch.split(group, TILE)]
        write_symmetric(matrix, _pairs(tiles))
    return made


def _distances_at_once(features: Tensor, groups: Tensor) -> Tensor:
    """`_distances` in one product of all groups, for devices that are slow to start many.

    It makes each pair twice, from the features once more in float32.
    """
    units = unit_vectors(features[groups])
    made = _to_distances(torch.bmm(units, units.transpose(1, 2)))
    made.diagonal(dim1=1, dim2=2).fill_(float("inf"))
    return made


def _nearest_others(tiles: list[tuple[Tensor, ...]], total: int) -> Tensor:
    """float32 [M], distance from each candidate to the nearest other."""
    nearest = torch.full((total,), float("inf"), dtype=torch.float32, device=tiles[0][0].device)
    for rows, columns, distances in _pairs(tiles):
        # A NaN distance counts as nearest, as a minimum over the matrix would have it.
        nearest[rows] = torch.minimum(nearest[rows], distances.amin(dim=1))
        if rows != columns:
            nearest[columns] = torch.minimum(nearest[columns], distances.amin(dim=0))
    return nearest
