import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.hooks import FinePruning
from fastav_plugin.hooks.fine_pruning import keep_top
from tests.support.views import VIDEO, make_view, modalities, shown


def test_keep_top_takes_the_best_of_the_candidates() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.2, 0.9, 0.3]])
    candidates = torch.tensor([[True, True, True, False, True]])
    kept = keep_top(scores, candidates, torch.tensor([2]))
    assert kept.tolist() == [[False, True, False, False, True]]


def test_ties_keep_the_lowest_position() -> None:
    candidates = torch.ones((1, 200), dtype=torch.bool)
    scores = torch.full((1, 200), 0.25)
    scores[0, 150] = 0.5
    kept = keep_top(scores, candidates, torch.tensor([70]))
    assert kept[0].nonzero()[:, 0].tolist() == [*range(69), 150]


def test_each_row_has_its_own_count() -> None:
    scores = torch.tensor([[0.1, 0.2, 0.3]] * 5)
    candidates = torch.ones((5, 3), dtype=torch.bool)
    candidates[4] = False
    kept = keep_top(scores, candidates, torch.tensor([0, 1, 2, 3, 2]))
    assert kept.tolist() == [
        [False, False, False],
        [False, False, True],
        [False, True, True],
        [True, True, True],
        [False, False, False],
    ]


def test_a_count_beyond_the_candidates_marks_no_other_row() -> None:
    candidates = torch.tensor([[False, True, False, True]])
    kept = keep_top(torch.zeros((1, 4)), candidates, torch.tensor([4]))
    assert kept.tolist() == candidates.tolist()


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=12, max_size=12),
        min_size=1,
        max_size=3,
    ),
    counts=st.lists(st.integers(0, 12), min_size=3, max_size=3),
)
def test_property_against_sorting(rows: list[list[tuple[int, bool]]], counts: list[int]) -> None:
    scores = torch.tensor([[float(score) for score, _ in row] for row in rows])
    candidates = torch.tensor([[candidate for _, candidate in row] for row in rows])
    kept = keep_top(scores, candidates, torch.tensor(counts[: len(rows)]))
    for row, count, mask in zip(rows, counts, kept, strict=False):
        ranked = sorted((-score, place) for place, (score, real) in enumerate(row) if real)
        assert mask.nonzero()[:, 0].tolist() == sorted(place for _, place in ranked[:count])


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3, 0.9])
@pytest.mark.parametrize("total", [1, 2, 3, 5, 7, 10, 20, 30, 100, 736, 1000])
def test_the_count_is_the_floor_that_python_computes(ratio: float, total: int) -> None:
    modality = torch.full((1, total), VIDEO, dtype=torch.uint8)
    view = make_view(modality, scores=torch.rand(1, total))
    keep = FinePruning(ratio)(view)
    assert keep is not None
    # One media token is left to every row: here, and not the lowest, the best one.
    assert int(keep.sum()) == max(1, math.floor((1 - ratio) * total))


def test_only_media_compete_and_each_row_by_itself() -> None:
    modality = modalities("tvatvatvat", "..tttvvvvt", "...ttttttt")
    scores = torch.tensor([[0.9, 0.1, 0.2, 0.9, 0.3, 0.1, 0.9, 0.2, 0.5, 0.9]] * 3)
    keep = FinePruning(0.5)(make_view(modality, scores=scores))
    # Row 0: floor(3.0) of v1 a2 v4 a5 v7 a8; row 1: floor(2.0) of v5 .1, v6 .9, v7 .2, v8 .5.
    assert shown(keep, modality) == ["t-atv-t-at", "..ttt-v-vt", "...ttttttt"]


def test_rows_another_hook_dropped_do_not_count() -> None:
    modality = modalities("tvvvvvvvvt")
    view = make_view(modality, scores=torch.linspace(0, 1, 10)[None])
    alive = view.alive.clone()
    alive[0, 5:9] = False
    view = type(view)(**{**vars(view), "alive": alive})
    keep = FinePruning(0.5)(view)
    assert keep is not None
    assert (keep & alive)[0].nonzero()[:, 0].tolist() == [0, 3, 4, 9]


def test_places() -> None:
    assert FinePruning(0.2).layers(28) == frozenset(range(15, 28))
    assert FinePruning(0.2, after_layer=3).layers(6) == frozenset({4, 5})
    assert FinePruning(0.2, after_layer=5).layers(6) == frozenset()
    assert FinePruning(0).layers(28) == frozenset()
    assert FinePruning.needs_scores


def test_from_config_and_back() -> None:
    hook = FinePruning.from_config(FastAVConfig(fine_drop_ratio=0.3, global_layer=4))
    assert (hook.drop_ratio, hook.after_layer) == (0.3, 4)
    assert hook.to_dict() == {"name": "fine_pruning", "drop_ratio": 0.3, "after_layer": 4}


@pytest.mark.parametrize("ratio", [1, 1.2, -0.1])
def test_ratio_out_of_range(ratio: float) -> None:
    with pytest.raises(ConfigError, match=f"drop_ratio.*{ratio}"):
        FinePruning(ratio)
