"""What a layer holds, moved with batch rows, cropped, joined and hidden."""

from __future__ import annotations

import torch

from fastav_plugin.layers.held_tokens import HeldTokens

POSITIONS = torch.tensor([[-1, 2, 5], [0, 1, 7]])
PADDED = HeldTokens(POSITIONS, POSITIONS >= 0)
WHOLE = HeldTokens(torch.tensor([[0, 3], [1, 2]]))


def test_batch_rows_move_with_their_padding() -> None:
    order = torch.tensor([1, 1, 0])
    moved = PADDED.map_rows(lambda tensor: tensor[order])
    assert torch.equal(moved.positions, POSITIONS[order])
    assert moved.valid is not None
    assert torch.equal(moved.valid, POSITIONS[order] >= 0)
    assert WHOLE.map_rows(lambda tensor: tensor[order[:2]]).valid is None


def test_the_last_tokens_go() -> None:
    left = PADDED.without_last(2)
    assert left.positions.tolist() == [[-1], [0]]
    assert left.valid is not None
    assert left.valid.tolist() == [[False], [True]]


def test_later_tokens_follow() -> None:
    later = HeldTokens(torch.tensor([[8], [9]]))
    joined = PADDED.followed_by(later)
    assert joined.positions.tolist() == [[-1, 2, 5, 8], [0, 1, 7, 9]]
    assert joined.valid is not None
    assert joined.valid.tolist() == [[False, True, True, True], [True] * 4]
    assert WHOLE.followed_by(later).valid is None


def test_hidden_tokens_are_padding() -> None:
    real = torch.ones(2, 8, dtype=torch.bool)
    real[0, 2] = real[1, 7] = False
    hidden = PADDED.hidden(real)
    assert hidden.positions.tolist() == [[-1, -1, 5], [0, 1, -1]]
    assert hidden.valid is not None
    assert torch.equal(hidden.valid, hidden.positions >= 0)
