"""Rows that grow in blocks hold what concatenation would, and seldom move."""

import copy
import pickle

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin.layers.kv_buffer import BLOCK, SHARE, KVBuffer

steps = st.lists(st.integers(-3, 40), min_size=1, max_size=12)


def rows(count: int, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + 2 * 3 * count * 4.0).view(2, 3, count, 4)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_it_holds_what_concatenation_would(changes: list[int]) -> None:
    """A positive step appends rows, a negative one takes some back."""
    expected = rows(5)
    growing = KVBuffer(expected)
    for number, change in enumerate(changes):
        if change > 0:
            more = rows(change, number)
            growing.append(more)
            expected = torch.cat([expected, more], dim=-2)
        elif -change < expected.shape[-2]:
            growing.crop(-change)
            expected = expected[..., : expected.shape[-2] + change, :]
        assert torch.equal(growing.held, expected)
        assert growing.nbytes == expected.nbytes
        memory = growing.held.untyped_storage().nbytes()
        assert growing.nbytes + growing.reserve_nbytes == memory


def test_memory_moves_once_per_block() -> None:
    growing = KVBuffer(rows(100))
    places = set()
    for _ in range(3 * BLOCK):
        growing.append(rows(1))
        places.add(growing.held.data_ptr())
    assert len(places) <= 3


def test_the_reserve_follows_the_length() -> None:
    growing = KVBuffer(rows(64 * SHARE))
    growing.append(rows(1))
    token = growing.held[..., :1, :].numel() * 4
    assert growing.nbytes == token * (64 * SHARE + 1)
    assert growing.reserve_nbytes == token * 64


def test_first_rows_are_held_without_a_copy_or_a_reserve() -> None:
    first = rows(10)
    growing = KVBuffer(first)
    assert growing.held.data_ptr() == first.data_ptr()
    assert (growing.nbytes, growing.reserve_nbytes) == (first.nbytes, 0)


def test_batch_rows_move_together_and_keep_their_reserve() -> None:
    growing = KVBuffer(rows(7))
    growing.append(rows(1, 900))
    before = growing.held.clone()
    growing.map_batch(lambda tensor: tensor.index_select(0, torch.tensor([1, 1, 0])))
    assert torch.equal(growing.held, before[[1, 1, 0]])
    place = growing.held.data_ptr()
    growing.append(torch.zeros(3, 3, 1, 4))
    assert growing.held.data_ptr() == place


def test_rows_made_in_inference_mode_grow_outside_it() -> None:
    with torch.inference_mode():
        growing = KVBuffer(rows(4))
        growing.append(rows(1))
    with torch.no_grad():
        growing.append(rows(2))
    assert growing.held.shape[-2] == 7


def test_gradients_pass() -> None:
    """Nobody prunes in training, but a forward outside no_grad must not fail."""
    first = rows(3).requires_grad_()
    growing = KVBuffer(first)
    for _ in range(2):
        growing.append(rows(1).requires_grad_())
    growing.held.square().sum().backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None
    assert torch.equal(first.grad, 2 * first.detach())


def test_copies_have_no_reserve_and_grow_alone() -> None:
    growing = KVBuffer(rows(7))
    growing.append(rows(1, 900))
    assert growing.reserve_nbytes
    expected = growing.held.clone()
    for twin in (copy.deepcopy(growing), pickle.loads(pickle.dumps(growing))):
        assert torch.equal(twin.held, expected)
        assert twin.reserve_nbytes == 0
        twin.append(rows(1, 30))
        twin.held.zero_()
        assert torch.equal(growing.held, expected)
