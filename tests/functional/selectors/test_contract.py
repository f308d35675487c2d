"""What all selectors have in common: exact counts, no pick twice, any dtype, zeros and copies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastav_plugin.functional import cosines
from fastav_plugin.functional.diversity import max_min_diversity
from fastav_plugin.functional.selectors.coverage import covering_picks
from fastav_plugin.functional.selectors.density_peaks import density_peaks
from fastav_plugin.functional.selectors.determinantal import determinantal_picks
from fastav_plugin.functional.selectors.pivots import least_similar_picks

Select = Callable[[Tensor, int], Tensor]


def weights_of(features: Tensor) -> Tensor:
    return 1 + torch.rand(len(features), generator=torch.Generator().manual_seed(3))


SELECTORS: dict[str, Select] = {
    "coverage": covering_picks,
    "weighted coverage": lambda x, k: covering_picks(x, k, weights_of(x)),
    "determinantal": lambda x, k: determinantal_picks(x, torch.ones(len(x)), k),
    "relevant determinantal": lambda x, k: determinantal_picks(x, weights_of(x) - 1, k),
    "density peaks": lambda x, k: density_peaks(x, torch.arange(len(x))[:, None], k),
    "pivots": lambda x, k: least_similar_picks(x, k, pivots=3, beside=x.new_ones(2, x.shape[1])),
    "weighted diversity": lambda x, k: max_min_diversity(x, k, weights=weights_of(x)),
}
each_selector = pytest.mark.parametrize("name", SELECTORS)


def gauss(total: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(total, width, generator=torch.Generator().manual_seed(seed))


def check_picks(picks: Tensor, total: int, count: int) -> None:
    assert picks.dtype == torch.int64 and picks.shape == (count,)
    found = picks.tolist()
    assert len(set(found)) == count
    assert all(0 <= pick < total for pick in found)


@each_selector
@settings(max_examples=25, deadline=None)
@given(data=st.data(), matrix=st.booleans())
def test_counts_are_exact_whatever_the_features(
    name: str, data: st.DataObject, matrix: bool
) -> None:
    total = data.draw(st.integers(1, 40))
    width = data.draw(st.integers(1, 8))
    count = data.draw(st.integers(0, total))
    features = gauss(total, width, data.draw(st.integers(0, 9)))
    copies = data.draw(st.lists(st.integers(0, total - 1), max_size=20))
    features[copies] = features[0].clone()
    features[data.draw(st.lists(st.integers(0, total - 1), max_size=10))] = 0
    with pytest.MonkeyPatch.context() as patch:
        if not matrix:
            patch.setattr(cosines, "MATRIX_LIMIT", 0)
        check_picks(SELECTORS[name](features, count), total, count)


@each_selector
def test_counts_are_exact_with_features_that_are_no_numbers(name: str) -> None:
    features = gauss(40, 8)
    features[3, 2] = float("nan")
    check_picks(SELECTORS[name](features, 20), 40, 20)


@each_selector
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_arithmetic_is_that_of_float32(name: str, dtype: torch.dtype) -> None:
    features = (gauss(120, 32) + 1).to(dtype)
    before = features.clone()
    picks = SELECTORS[name](features, 50)
    assert torch.equal(features, before)
    assert torch.equal(picks, SELECTORS[name](features.float(), 50))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(picks, SELECTORS[name](features, 50))


@each_selector
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_that_are_all_the_same_keep_the_first(name: str, value: float) -> None:
    features = torch.full((30, 12), value)
    picks = SELECTORS[name](features, 9)
    check_picks(picks, 30, 9)
    # The others have weights or places to go by.
    if name in ("coverage", "determinantal", "pivots"):
        assert sorted(picks.tolist()) == list(range(9))


@each_selector
def test_no_gradients_are_kept(name: str) -> None:
    features = gauss(30, 8).requires_grad_()
    picks = SELECTORS[name](features, 12)
    check_picks(picks, 30, 12)
