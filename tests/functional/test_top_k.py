"""Which candidates stay, and how many."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin.functional.top_k import counts_of, keep_top, spread_evenly


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


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0.01, 1))
def test_even_distances(marks: list[bool], ratio: float) -> None:
    candidates = torch.tensor([marks])
    counts = counts_of(candidates.sum(dim=1), ratio)
    total = sum(marks)
    assert counts.tolist() == [min(total, max(1, round(ratio * total)))]
    kept = spread_evenly(candidates, counts)
    assert not (kept & ~candidates).any()
    assert kept.sum() == counts
    places = (candidates.cumsum(1) - 1)[kept].tolist()
    gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
    assert max(gaps, default=1) - min(gaps, default=1) <= 1
