"""Coverage against the greedy choice by its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastav_plugin.functional import cosines
from fastav_plugin.functional.selectors.coverage import covering_picks
from tests.functional.selectors.test_contract import gauss


def check_greedy(features: Tensor, picks: Tensor, weights: Tensor | None = None) -> None:
    """Each pick's gain, computed anew in float64, is the best; of equals it is the first."""
    units = torch.nn.functional.normalize(features.double(), dim=1)
    similarity = units @ units.T
    factors = torch.ones(len(features)).double() if weights is None else weights.double()
    cover = torch.zeros(len(features), dtype=torch.float64)
    left = torch.ones(len(features), dtype=torch.bool)
    for pick in picks.tolist():
        gains = (similarity - cover[:, None]).clamp(min=0).sum(dim=0) * factors
        best = gains[left].max()
        assert left[pick]
        assert gains[pick] >= best * (1 - 3e-6) - 1e-6
        better = left & (gains > best * (1 - 1e-7))
        if best > 1e-3 and int(better.sum()) > 1 and (gains[better] >= best * (1 - 1e-12)).all():
            assert pick == int(better.nonzero()[0])
        left[pick] = False
        cover = torch.maximum(cover, similarity[pick])


@pytest.mark.parametrize("matrix", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("count", [1, 40, 300])
def test_greedy(monkeypatch: pytest.MonkeyPatch, matrix: bool, weighted: bool, count: int) -> None:
    monkeypatch.setattr(cosines, "TILE", 100)
    if not matrix:
        monkeypatch.setattr(cosines, "MATRIX_LIMIT", 0)
    features = gauss(300, 24)
    features[200:] = features[:100] + 0.1 * gauss(100, 24, 1)
    weights = torch.rand(300, generator=torch.Generator().manual_seed(2)) if weighted else None
    check_greedy(features, covering_picks(features, count, weights), weights)


def test_the_first_pick_is_the_one_most_like_all() -> None:
    features = torch.tensor([[1.0, 0], [0.9, 0.1], [0.8, 0.3], [-1, 0.2], [-1, -0.2]])
    # The cosines to the first three add up most for the one in the middle.
    assert covering_picks(features, 2).tolist() == [1, 3]


def test_equal_gains_keep_the_first() -> None:
    """Two that cover each other alone gain exactly the same."""
    axes = torch.eye(8)
    pairs = torch.cat([axes[0::2] + 0.5 * axes[1::2], axes[0::2] - 0.5 * axes[1::2]])
    assert covering_picks(pairs, 4).tolist() == [0, 1, 2, 3]


def test_weights_decide_where_all_are_covered() -> None:
    features = torch.ones(6, 4)
    weights = torch.tensor([0.1, 0.5, 0.2, 0.5, 0.9, 0.3])
    assert covering_picks(features, 6, weights).tolist() == [4, 1, 3, 5, 2, 0]
