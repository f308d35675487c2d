"""Cosines in float32, as a matrix and without one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastav_plugin.functional import cosines as module
from fastav_plugin.functional.cosines import Cosines, min_max, unit_vectors


def features(total: int = 150, width: int = 24, dtype: torch.dtype = torch.float32) -> Tensor:
    found = torch.randn(total, width, generator=torch.Generator().manual_seed(total)).to(dtype)
    found[total // 2] = 0
    return found


def exact(vectors: Tensor) -> Tensor:
    units = torch.nn.functional.normalize(vectors.double(), dim=1)
    return units @ units.T


@pytest.mark.parametrize("matrix", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_blocks_and_squares(
    monkeypatch: pytest.MonkeyPatch, matrix: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(module, "TILE", 40)
    if not matrix:
        monkeypatch.setattr(module, "MATRIX_LIMIT", 0)
    vectors = features(dtype=dtype)
    before = vectors.clone()
    wanted = exact(vectors)
    made = Cosines(vectors)
    assert torch.equal(vectors, before)
    index = torch.tensor([3, 149, 75, 0])

    def close(found: Tensor, expected: Tensor) -> None:
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)

    close(made.rows(index), wanted[index])
    assert made.rows(index[:0]).shape == (0, 150)
    close(made.between(index), wanted[index][:, index])
    blocks = list(made.blocks(64))
    assert [places.stop for places, _ in blocks] == [64, 128, 150]
    close(torch.cat([block for _, block in blocks]), wanted)
    assert made.present.sum() == 149 and made.present[75] == 0
    # Exactly, so that nothing is left of a candidate that is picked.
    assert torch.equal(made.rows(index)[range(4), index], made.present[index])


def test_unit_vectors_of_zeros() -> None:
    assert torch.equal(
        unit_vectors(torch.tensor([[0.0, 0], [3, 4]])), torch.tensor([[0, 0], [0.6, 0.8]])
    )


def test_min_max() -> None:
    assert min_max(torch.tensor([2, 4, 3])).tolist() == [0, 1, 0.5]
    assert min_max(torch.full((3,), 7.0)).tolist() == [0, 0, 0]
    assert min_max(torch.empty(0)).shape == (0,)


def test_min_max_makes_no_cue_of_rounding() -> None:
    """Copies' cosines differ in their last bits; scaled, that would be the whole range."""
    assert min_max(torch.tensor([0.0, 2.4e-7, -1.2e-7])).tolist() == [0, 0, 0]
    assert min_max(torch.tensor([0.0, 1e-4, 5e-5])).tolist() == pytest.approx([0, 1, 0.5])
