"""Scores shared with what lies beside a token, against loops."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin.functional.neighbours import share_in_sequence, share_on_grids


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_sequence(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 14))
    reach = data.draw(st.integers(0, 4))
    scores = torch.rand(2, length, generator=torch.Generator().manual_seed(length))
    steps = [data.draw(st.lists(st.integers(1, 3), min_size=length, max_size=length)) for _ in "ab"]
    positions = torch.tensor(steps).cumsum(dim=1)
    numbers = st.lists(st.integers(-1, 1), min_size=length, max_size=length)
    groups = torch.tensor([data.draw(numbers), data.draw(numbers)])
    wanted = scores.clone()
    for row in range(2):
        for i in range(length):
            for j in range(length):
                near = abs(int(positions[row, i] - positions[row, j])) <= reach
                if near and groups[row, i] == groups[row, j] >= 0:
                    wanted[row, i] = max(wanted[row, i], 0.9 * scores[row, j])
    assert torch.equal(share_in_sequence(scores, positions, groups, reach), wanted)


def test_grids() -> None:
    scores = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    for reach in (0, 1, 3, 9):
        found = share_on_grids(scores, reach)
        for line in range(5):
            for column in range(7):
                lines = slice(max(0, line - reach), line + reach + 1)
                columns = slice(max(0, column - reach), column + reach + 1)
                best = 0.9 * scores[:, lines, columns].amax(dim=(1, 2))
                assert torch.equal(
                    found[:, line, column], torch.maximum(scores[:, line, column], best)
                )
