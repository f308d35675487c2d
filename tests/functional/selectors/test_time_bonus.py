"""The bonus of moments against picking one by one."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin.functional.selectors.time_bonus import with_time_bonus


@settings(max_examples=60, deadline=None)
@given(
    moments=st.lists(st.integers(0, 4), min_size=2, max_size=20),
    bonus=st.floats(0, 3),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_the_best_sums_are_those_picked_one_by_one(
    moments: list[int], bonus: float, seed: int, data: st.DataObject
) -> None:
    total = len(moments)
    scores = torch.rand(1, total, generator=torch.Generator().manual_seed(seed))
    chosen = data.draw(st.sets(st.integers(0, total - 1), min_size=2))
    candidates = torch.zeros(1, total, dtype=torch.bool)
    candidates[0, list(chosen)] = True
    sums = with_time_bonus(scores, candidates, torch.tensor([moments]), bonus)[0]
    values = {index: float(scores[0, index]) for index in chosen}
    low, high = min(values.values()), max(values.values())
    picked = dict.fromkeys(moments, 0)
    left = sorted(chosen)
    for expected in sorted(chosen, key=lambda index: -float(sums[index])):
        worth = {
            index: (values[index] - low) / (high - low) + bonus / (1 + picked[moments[index]])
            for index in left
        }
        best = max(worth.values())
        assert worth[expected] >= best - 1e-5
        assert abs(float(sums[expected]) - worth[expected]) < 1e-5
        picked[moments[expected]] += 1
        left.remove(expected)


def test_without_a_bonus_scores_decide() -> None:
    scores = torch.tensor([[0.3, 0.1, 0.9, 0.4]])
    sums = with_time_bonus(scores, torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4).long(), 0)
    assert sums.argsort(descending=True).tolist() == scores.argsort(descending=True).tolist()


def test_a_batch_row_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(3, 12, generator=draw)
    candidates = torch.rand(3, 12, generator=draw) > 0.3
    moment = torch.randint(0, 3, (3, 12), generator=draw)
    whole = with_time_bonus(scores, candidates, moment, 0.5)
    for row in range(3):
        places = candidates[row].nonzero().squeeze(1)
        alone = with_time_bonus(
            scores[row, places][None],
            torch.ones(1, len(places), dtype=torch.bool),
            moment[row, places][None],
            0.5,
        )
        assert torch.equal(alone[0], whole[row, places])
