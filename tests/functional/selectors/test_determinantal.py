"""Determinantal picks against determinants."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastav_plugin.functional import cosines
from fastav_plugin.functional.selectors import determinantal
from fastav_plugin.functional.selectors.determinantal import determinantal_picks
from tests.functional.selectors.test_contract import gauss


def relevance_of(total: int) -> Tensor:
    return torch.rand(total, generator=torch.Generator().manual_seed(5))


def greedy(features: Tensor, relevance: Tensor, count: int) -> list[int]:
    """Log-determinants of all one-larger sets at each step, in float64."""
    units = torch.nn.functional.normalize(features.double(), dim=1)
    # Exactly one, or rounding would decide the first pick.
    cosine = (units @ units.T).fill_diagonal_(1)
    kernel = relevance.double()[:, None] * cosine * relevance.double()
    picks: list[int] = []
    for _ in range(count):
        values = torch.full((len(features),), float("-inf"), dtype=torch.float64)
        for candidate in set(range(len(features))) - set(picks):
            chosen = [*picks, candidate]
            values[candidate] = torch.linalg.slogdet(kernel[chosen][:, chosen])[1]
        picks.append(int(values.argmax()))
    return picks


@pytest.mark.parametrize("shortlist", [5, 256])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("matrix", [True, False])
def test_greedy(monkeypatch: pytest.MonkeyPatch, shortlist: int, plain: bool, matrix: bool) -> None:
    monkeypatch.setattr(determinantal, "SHORTLIST", shortlist)
    if not matrix:
        monkeypatch.setattr(cosines, "MATRIX_LIMIT", 0)
    features = gauss(60, 30) + 0.5
    relevance = torch.ones(60) if plain else relevance_of(60)
    found = determinantal_picks(features, relevance, 25).tolist()
    assert found == greedy(features, relevance, 25)


@pytest.mark.parametrize("shortlist", [16, 64])
def test_long_runs_follow_the_residuals(monkeypatch: pytest.MonkeyPatch, shortlist: int) -> None:
    """Each pick adds as much as the best: its residual by a projection in float64."""
    monkeypatch.setattr(determinantal, "SHORTLIST", shortlist)
    features = gauss(500, 300)
    features[250:] = features[:250] + 0.3 * gauss(250, 300, 1)
    relevance = relevance_of(500)
    picks = determinantal_picks(features, relevance, 280).tolist()
    assert len(set(picks)) == 280
    left = torch.nn.functional.normalize(features.double(), dim=1)
    squares = relevance.double() ** 2
    for pick in picks:
        worth = squares * left.square().sum(dim=1)
        assert worth[pick] >= worth.max() * (1 - 1e-4) - 2e-5
        direction = left[pick] / left[pick].norm()
        left = left - (left @ direction)[:, None] * direction


def test_more_picks_than_dimensions_go_on_by_relevance() -> None:
    features, relevance = gauss(50, 6), relevance_of(50)
    picks = determinantal_picks(features, relevance, 20).tolist()
    assert picks[:6] == greedy(features, relevance, 6)
    rest = [
        index for index in relevance.argsort(descending=True).tolist() if index not in picks[:6]
    ]
    assert picks[6:] == rest[:14]


def test_copies_and_zeros_add_nothing() -> None:
    features = torch.cat([torch.eye(5), torch.eye(5), torch.zeros(3, 5)])
    assert determinantal_picks(features, torch.ones(13), 5).tolist() == [0, 1, 2, 3, 4]
    most = torch.linspace(1, 0.5, 13).flip(0)  # the last is the most relevant
    picks = determinantal_picks(features, most, 13).tolist()
    assert picks == [9, 8, 7, 6, 5, 12, 11, 10, 4, 3, 2, 1, 0]


def test_what_is_not_relevant_comes_last() -> None:
    relevance = torch.ones(20)
    relevance[[0, 7]] = 0
    picks = determinantal_picks(gauss(20, 40), relevance, 20).tolist()
    assert picks[18:] == [0, 7]
