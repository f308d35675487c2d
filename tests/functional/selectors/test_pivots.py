"""Pivots, and what is least like them."""

from __future__ import annotations

import torch

from fastav_plugin.functional.selectors.pivots import largest_norms, least_similar_picks
from tests.functional.selectors.test_contract import gauss


def test_pivots_then_the_least_similar() -> None:
    features, words = gauss(40, 8), gauss(2, 8, 1)
    found = least_similar_picks(features, 15, pivots=4, beside=words).tolist()
    norms = features.norm(dim=1).tolist()
    pivots = sorted(range(40), key=lambda index: -norms[index])[:4]
    assert found[:4] == pivots
    compared = torch.cat([features[pivots], words]).double()
    cosines = torch.nn.functional.cosine_similarity(
        features.double()[:, None], compared[None], dim=2
    )
    likeness = cosines.amax(dim=1).tolist()
    rest = sorted((index for index in range(40) if index not in pivots), key=likeness.__getitem__)
    assert found[4:] == rest[:11]


def test_fewer_picks_than_pivots() -> None:
    features = torch.diag(torch.tensor([1.0, 3, 2, 3]))
    assert least_similar_picks(features, 2, pivots=4).tolist() == [1, 3]
    assert least_similar_picks(features, 3, pivots=0).tolist() == [0, 1, 2]
    assert largest_norms(features, 9).tolist() == [1, 3, 2, 0]
