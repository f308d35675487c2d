"""Selection in groups, without a matrix, and without waiting for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastav_plugin.functional import diversity
from fastav_plugin.functional.diversity import max_min_diversity, pick_in_groups
from tests.hooks.test_divprune import CASES, GOLDEN, check_rule

#: Operations that wait for a GPU.
WAITS = {"aten._local_scalar_dense", "aten.item", "aten.nonzero", "aten.is_nonzero", "aten.equal"}


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of a block by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket)
        if name == "aten.index" and any(i is not None and i.dtype == torch.bool for i in args[1]):
            name = "aten.nonzero"  # which is how a mask becomes an index
        self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def clusters(total: int, width: int, near: float = 0.05) -> Tensor:
    draw = torch.Generator().manual_seed(total)
    centres = torch.randn(12, width, generator=draw) + 1
    place = torch.randint(0, 12, (total,), generator=draw)
    return centres[place] + near * torch.randn(total, width, generator=draw)


@pytest.mark.parametrize("case", [name for name in CASES if not name.startswith("video")])
@pytest.mark.parametrize("matrix", [True, False])
def test_golden_picks_by_small_tiles(
    monkeypatch: pytest.MonkeyPatch, case: str, matrix: bool
) -> None:
    monkeypatch.setattr(diversity, "TILE", 100)
    if not matrix:
        monkeypatch.setattr(diversity, "MATRIX_LIMIT", 0)
        monkeypatch.setattr(diversity, "SHORTLIST", 64)
    features = GOLDEN[case.split("/")[0] + "/features"].float()
    check_rule(features, max_min_diversity(features, len(GOLDEN[case])), GOLDEN[case])


@pytest.mark.parametrize("matrix", [True, False])
@pytest.mark.parametrize("fast", [True, False])
def test_long_redundant_features_follow_the_rule(
    monkeypatch: pytest.MonkeyPatch, matrix: bool, fast: bool
) -> None:
    """Products near one, summed over many columns, are where float32 rounds most."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: fast)
    monkeypatch.setattr(diversity, "TILE", 150)
    monkeypatch.setattr(diversity, "SHORTLIST", 50)
    if not matrix:
        monkeypatch.setattr(diversity, "MATRIX_LIMIT", 0)
    features = clusters(400, 4096)
    check_rule(features, max_min_diversity(features, 200))


@pytest.mark.parametrize("matrix", [True, False])
def test_copies_of_a_row_tie(monkeypatch: pytest.MonkeyPatch, matrix: bool) -> None:
    """After one of each the lowest index is next, whatever float32 rounds copies apart by."""
    monkeypatch.setattr(diversity, "TILE", 70)
    if not matrix:
        monkeypatch.setattr(diversity, "MATRIX_LIMIT", 0)
        monkeypatch.setattr(diversity, "SHORTLIST", 48)
        monkeypatch.setattr(diversity, "SHORTEST", 16)
    unlike = torch.randn(13, 500, generator=torch.Generator().manual_seed(0))
    scale = 1 + torch.rand(260, 1, generator=torch.Generator().manual_seed(1))
    picks = max_min_diversity(unlike.repeat(20, 1) * scale, 100).tolist()
    assert sorted(pick % 13 for pick in picks[:13]) == list(range(13))
    rest = [row for row in range(260) if row not in picks[:13]]
    assert picks[13:] == rest[:87]


@pytest.mark.parametrize("case", [name for name in CASES if not name.startswith("video")])
def test_golden_picks_by_one_product(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """The way of other devices than a CPU, on this one."""
    monkeypatch.setattr(diversity, "_distances", diversity._distances_at_once)
    features = GOLDEN[case.split("/")[0] + "/features"].float()
    check_rule(features, max_min_diversity(features, len(GOLDEN[case])), GOLDEN[case])


def test_one_product_of_groups_of_unequal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    features = clusters(100, 24)
    groups = torch.arange(120).view(3, 40).clamp(max=99)
    valid = torch.arange(120).view(3, 40) < 100
    expected = pick_in_groups(features, groups, valid, 15)
    monkeypatch.setattr(diversity, "_distances", diversity._distances_at_once)
    with Counted() as seen:
        found = pick_in_groups(features, groups, valid, 15)
    assert torch.equal(found, expected)
    assert seen.counts["aten.bmm"] == 1
    assert not WAITS & set(seen.counts)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), matrix=st.booleans())
def test_property_a_group_picks_as_it_would_alone(data: st.DataObject, matrix: bool) -> None:
    sizes = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=5))
    features = torch.randn(
        sum(sizes), 5, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    )
    starts = torch.tensor([0, *sizes]).cumsum(0)
    places = torch.arange(max(sizes))
    valid = places < torch.tensor(sizes)[:, None]
    groups = (starts[:-1, None] + places).masked_fill(~valid, 0)
    count = data.draw(st.integers(0, max(sizes)))
    with pytest.MonkeyPatch.context() as patch:
        if not matrix:
            patch.setattr(diversity, "MATRIX_LIMIT", 0)
        picks = pick_in_groups(features, groups, valid, count)
    for group, size in enumerate(sizes):
        rows = features[starts[group] : starts[group] + size]
        own = min(size, count)
        assert torch.equal(picks[group, :own], max_min_diversity(rows, own))


def test_groups_too_many_for_one_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    features = clusters(120, 16)
    groups = torch.arange(120).view(6, 20)
    expected = pick_in_groups(features, groups, None, 7)
    monkeypatch.setattr(diversity, "MATRIX_LIMIT", 30)  # two groups of 20 at a time
    assert torch.equal(pick_in_groups(features, groups, None, 7), expected)


def test_steps_are_shared_by_all_groups_and_wait_for_no_device() -> None:
    features = clusters(240, 16)
    steps = {}
    for number in (1, 6):
        groups = torch.arange(number * 40).view(number, 40)
        valid = torch.ones_like(groups, dtype=torch.bool)
        with Counted() as seen:
            pick_in_groups(features, groups, valid, 10)
        assert not WAITS & set(seen.counts)
        steps[number] = {name: seen.counts[name] for name in ("aten.fmin", "aten.index_select")}
    assert steps[1] == steps[6]
    assert steps[1]["aten.index_select"] == 10
    with Counted() as seen:
        int(features.argmax())
        features[features > 0]
    assert {"aten._local_scalar_dense", "aten.nonzero"} <= set(seen.counts)


def test_rounds_wait_once_each_and_not_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "MATRIX_LIMIT", 0)
    monkeypatch.setattr(diversity, "SHORTLIST", 100)
    features = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    with Counted() as seen:
        max_min_diversity(features, 100)
    assert 0 < seen.counts["aten._local_scalar_dense"] < 30


def test_the_features_are_left_alone() -> None:
    features = torch.randn(30, 8, requires_grad=True)
    before = features.detach().clone()
    picks = max_min_diversity(features, 12)
    assert torch.equal(features, before)
    assert len(set(picks.tolist())) == 12


@pytest.mark.parametrize("matrix", [True, False])
def test_weights_multiply_distances(monkeypatch: pytest.MonkeyPatch, matrix: bool) -> None:
    """Each pick has the largest product of its weight and its distance to the picks so far."""
    if not matrix:
        monkeypatch.setattr(diversity, "MATRIX_LIMIT", 0)
        monkeypatch.setattr(diversity, "SHORTLIST", 40)
        monkeypatch.setattr(diversity, "TILE", 70)
    features = clusters(200, 32, near=0.6)
    weights = 1 + torch.rand(200, generator=torch.Generator().manual_seed(4))
    picks = max_min_diversity(features, 90, weights=weights).tolist()
    assert len(set(picks)) == 90
    units = torch.nn.functional.normalize(features.double(), dim=1)
    distances = (1 - units @ units.T).fill_diagonal_(float("inf")) * weights.double()[:, None]
    assert picks[0] == int(distances.amin(dim=1).argmax())
    for step in range(1, 90):
        nearest = distances[:, picks[:step]].amin(dim=1)
        nearest[picks[:step]] = -1
        assert nearest[picks[step]] >= nearest.max() - 4e-6
    plain = max_min_diversity(features, 90)
    assert torch.equal(max_min_diversity(features, 90, weights=torch.full((200,), 2.0)), plain)


def test_weights_of_groups_of_unequal_size() -> None:
    features = clusters(50, 8, near=0.6)
    weights = 1 + torch.rand(50, generator=torch.Generator().manual_seed(4))
    groups = torch.arange(60).view(2, 30).clamp(max=49)
    valid = torch.arange(60).view(2, 30) < 50
    picks = pick_in_groups(features, groups, valid, 12, weights)
    for start, stop, found in ((0, 30, picks[0]), (30, 50, picks[1])):
        part = slice(start, stop)
        alone = max_min_diversity(features[part], 12, weights=weights[part])
        assert torch.equal(found, alone)
