"""Density peaks against their formulas, with loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastav_plugin.functional import cosines
from fastav_plugin.functional.selectors import density_peaks as module
from fastav_plugin.functional.selectors.density_peaks import density_peaks, scaled_places
from tests.functional.selectors.test_contract import gauss


def products(features: Tensor, places: list[tuple[float, ...]], weight: float) -> list[float]:
    """Density times separation of each candidate."""
    units = torch.nn.functional.normalize(features.double(), dim=1)
    axes = list(zip(*places, strict=True))
    used = [axis for axis in axes if max(axis) > min(axis)]
    total = len(features)

    def apart(i: int, j: int) -> float:
        scaled = [((axis[i] - axis[j]) / (max(axis) - min(axis))) ** 2 for axis in used]
        place = math.sqrt(sum(scaled) / len(scaled)) if scaled else 0.0
        return 1 - float(units[i] @ units[j]) + weight * place

    distances = [[apart(i, j) for j in range(total)] for i in range(total)]
    density = []
    for i in range(total):
        near = sorted(distances[i][j] for j in range(total) if j != i)[:7]
        density.append(math.exp(-sum(one**2 for one in near) / len(near)))
    found = []
    for i in range(total):
        denser = [distances[i][j] for j in range(total) if density[j] > density[i]]
        others = [distances[i][j] for j in range(total) if j != i]
        found.append(density[i] * (min(denser) if denser else max(others)))
    return found


@pytest.mark.parametrize("matrix", [True, False])
@pytest.mark.parametrize("places", ["none", "time", "grid"])
def test_the_largest_products(monkeypatch: pytest.MonkeyPatch, matrix: bool, places: str) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    if not matrix:
        monkeypatch.setattr(cosines, "MATRIX_LIMIT", 0)
    features = gauss(48, 10)
    cells: dict[str, list[tuple[float, ...]]] = {
        "none": [(2, 2, 2)] * 48,
        "time": [(i, 0, 0) for i in range(48)],
        "grid": [(i // 16, i % 16 // 4, i % 4) for i in range(48)],
    }
    found = density_peaks(features, torch.tensor(cells[places]), 20).tolist()
    wanted = products(features, cells[places], 0.2)
    assert found == sorted(range(48), key=lambda index: -wanted[index])[:20]


def test_fewer_candidates_than_neighbours() -> None:
    for total in (1, 2, 3):
        picks = density_peaks(gauss(total, 4), torch.zeros(total, 3), total)
        assert sorted(picks.tolist()) == list(range(total))


def test_each_cluster_has_its_peak() -> None:
    centres = torch.eye(6)[:, :, None] * torch.ones(6)
    features = torch.cat([centre.T.repeat(4, 1)[:20] for centre in centres])
    features = features + 0.01 * gauss(120, 6)
    picks = density_peaks(features, torch.zeros(120, 1), 6)
    assert sorted((picks // 20).tolist()) == [0, 1, 2, 3, 4, 5]


def test_copies_have_one_peak() -> None:
    features = torch.eye(3).repeat(10, 1)
    picks = density_peaks(features, torch.zeros(30, 1), 3)
    assert sorted((picks % 3).tolist()) == [0, 1, 2]


def test_scaled_places() -> None:
    places = torch.tensor([[5, 0, 1], [5, 3, 1], [5, 6, 3]])
    scaled = scaled_places(places)
    assert scaled.shape == (3, 2)
    torch.testing.assert_close(torch.cdist(scaled, scaled).amax(), torch.tensor(1.0))
