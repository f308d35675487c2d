"""Scores that are shared with the tokens next to a token, in a sequence or on a grid."""

import torch
from torch import Tensor

#: Share of a token's score that its neighbours have at least.
SHARE = 0.9


def share_in_sequence(
    scores: Tensor, positions: Tensor, groups: Tensor, reach: int, share: float = SHARE
) -> Tensor:
    """Raise each score to `share` times the best score within `reach` positions of its group.

    Args:
        scores: float32 [B, T], at least 0.
        positions: int64 [B, T], ascending, of those with a group.
        groups: int64 [B, T]; tokens of group -1 neither give nor take.
        reach: positions on either side, at least 0.
        share: in [0, 1].

    Returns:
        float32 [B, T].
    """
    shared = scores.clone()
    inside = groups >= 0
    # Positions ascend, so what lies within `reach` positions lies within as many places.
    for step in range(1, min(reach, scores.shape[1] - 1) + 1):
        near = (positions[:, step:] - positions[:, :-step] <= reach) & inside[:, step:]
        near &= groups[:, step:] == groups[:, :-step]
        earlier, later = scores[:, :-step], scores[:, step:]
        for target, source in ((shared[:, step:], earlier), (shared[:, :-step], later)):
            torch.maximum(target, torch.where(near, share * source, 0.0), out=target)
    return shared


def share_on_grids(scores: Tensor, reach: int, share: float = SHARE) -> Tensor:
    """Raise each score to `share` times the best score within `reach` lines and columns.

    Args:
        scores: float32 [N, lines, columns], at least 0.
        reach: patches in each direction, at least 0.
        share: in [0, 1].
    """
    # Padding never wins: torch pads a maximum with the lowest number.
    best = torch.nn.functional.max_pool2d(scores[:, None], 2 * reach + 1, stride=1, padding=reach)
    return torch.maximum(scores, share * best[:, 0])
