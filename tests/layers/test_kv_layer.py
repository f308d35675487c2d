import pytest
import torch
from torch import Tensor

from fastav_plugin import StateError, UnsupportedError
from fastav_plugin.layers.held_tokens import HeldTokens, Ticket
from fastav_plugin.layers.kv_layer import FastAVLayer


def rows(count: int, batch: int = 2, fill: float | None = None) -> Tensor:
    """[B, 1, T, 2]: keys whose first number is 100 * batch row + index."""
    numbers = 100.0 * torch.arange(batch)[:, None] + torch.arange(count)
    if fill is not None:
        numbers = torch.full((batch, count), fill)
    return numbers[:, None, :, None].expand(batch, 1, count, 2).clone()


def prompt(kept: list[list[int]], seen: int, window: int | None = None) -> FastAVLayer:
    """A layer that holds these positions of a prompt; -1 is padding."""
    positions = torch.tensor(kept)
    valid = positions >= 0
    layer = FastAVLayer(window)
    keys = rows(positions.shape[1], len(kept))
    real = None if bool(valid.all()) else valid
    cut = positions.shape[1] != seen
    layer.expect(Ticket(positions.shape[1], seen, HeldTokens(positions, real), cut=cut))
    layer.update(keys, -keys)
    return layer


def decode(layer: FastAVLayer, count: int = 1, fill: float = 7) -> tuple[Tensor, Tensor]:
    layer.expect(Ticket(count, count))
    batch = layer.batch_size
    return layer.update(rows(count, batch, fill), -rows(count, batch, fill))


def test_before_the_first_update() -> None:
    layer = FastAVLayer()
    assert (layer.num_tokens, layer.appended, layer.batch_size, layer.nbytes) == (0, 0, -1, 0)
    assert layer.positions.shape == (0, 0)
    assert layer.valid is None
    assert not layer.is_initialized
    assert not layer.compacted
    assert layer.get_seq_length() == 0
    assert layer.get_mask_sizes(5) == (5, 0)
    assert layer.get_max_length() == -1
    layer.crop(-3)
    layer.crop(0)
    layer.reorder_cache(torch.tensor([1, 0]))
    layer.map_rows(lambda tensor: tensor.repeat_interleave(2, dim=0))
    layer.reset()


def test_positions_and_validity_grow_with_the_rows() -> None:
    layer = prompt([[0, 2, 5], [-1, 4, 5]], seen=6)
    keys, values = decode(layer, 2)
    assert torch.equal(keys, -values)
    assert keys.shape == (2, 1, 5, 2)
    assert layer.positions.tolist() == [[0, 2, 5, 6, 7], [-1, 4, 5, 6, 7]]
    assert layer.valid is not None
    assert layer.valid.tolist() == [[True] * 5, [False, True, True, True, True]]
    assert (layer.num_tokens, layer.appended, layer.get_seq_length()) == (5, 2, 8)
    assert layer.get_mask_sizes(1) == (9, 0)
    assert layer.compacted
    assert layer.nbytes == 2 * keys.nbytes
    assert layer.nbytes + layer.reserve_nbytes == 2 * keys.untyped_storage().nbytes()
    assert repr(layer) == "FastAVLayer(5 of 8 tokens)"
    assert layer.dense_nbytes == 2 * keys.nbytes // 5 * 8


def test_all_rows_real_needs_no_validity() -> None:
    layer = prompt([[0, 1, 2], [0, 1, 2]], seen=3)
    assert layer.valid is None
    assert not layer.compacted
    decode(layer)
    assert layer.valid is None
    assert not layer.compacted


def test_no_row_without_a_ticket() -> None:
    layer = FastAVLayer()
    with pytest.raises(StateError, match="attach"):
        layer.update(rows(2), rows(2))
    assert layer.num_tokens == 0
    layer = prompt([[0, 1]], seen=2)
    with pytest.raises(StateError, match="announced"):
        layer.update(rows(1, 1), rows(1, 1))
    assert (layer.num_tokens, layer.get_seq_length()) == (2, 2)


def test_a_ticket_is_for_its_rows_and_once() -> None:
    layer = prompt([[0, 1]], seen=2)
    layer.expect(Ticket(1, 1))
    with pytest.raises(StateError, match=r"\(2, not 1\)"):
        layer.update(rows(2, 1), rows(2, 1))
    with pytest.raises(StateError, match="announced"):
        layer.update(rows(1, 1), rows(1, 1))  # the refusal used the ticket up
    decode(layer)
    with pytest.raises(StateError, match="announced"):
        layer.update(rows(1, 1), rows(1, 1))
    assert layer.num_tokens == 3


def test_crop_takes_back_what_was_appended() -> None:
    layer = prompt([[0, 2, 5], [-1, 4, 5]], seen=6)
    decode(layer, 3)
    layer.crop(-2)
    assert layer.positions.tolist() == [[0, 2, 5, 6], [-1, 4, 5, 6]]
    layer.crop(0)
    layer.crop(-1)
    assert layer.positions.tolist() == [[0, 2, 5], [-1, 4, 5]]
    assert (layer.num_tokens, layer.get_seq_length()) == (3, 6)
    decode(layer)
    assert layer.positions[0].tolist() == [0, 2, 5, 6]


def test_crop_reaches_into_drafted_rows_of_the_prompt_only() -> None:
    layer = prompt([[0, 2, 4, 5, 6], [-1, 3, 4, 5, 6]], seen=7)
    layer.crop(-3)
    assert layer.positions.tolist() == [[0, 2], [-1, 3]]
    assert layer.get_seq_length() == 4
    decode(layer)
    assert layer.positions.tolist() == [[0, 2, 4], [-1, 3, 4]]
    assert layer.valid is not None
    assert layer.valid.tolist() == [[True] * 3, [False, True, True]]


@pytest.mark.parametrize(
    ("count", "why"),
    [(4, "pruned.*new FastAVCache"), (5, "pruned.*new FastAVCache"), (9, "has seen 8")],
)
def test_crop_refuses_to_reach_a_pruned_row(count: int, why: str) -> None:
    layer = prompt([[0, 2, 4, 5, 6]], seen=7)
    decode(layer)
    before = layer.keys
    with pytest.raises(StateError, match=why):
        layer.crop(-count - 1)
    assert layer.keys is before
    assert layer.get_seq_length() == 8


def test_crop_takes_negative_numbers() -> None:
    layer = prompt([[0, 1]], seen=2)
    with pytest.raises((StateError, ValueError), match="negative.*3"):
        layer.crop(3)


def test_rows_of_the_batch_move_together() -> None:
    layer = prompt([[0, 2, 5], [-1, 4, 5]], seen=6)
    decode(layer)
    layer.reorder_cache(torch.tensor([1, 1]))
    assert layer.positions.tolist() == [[-1, 4, 5, 6]] * 2
    layer = prompt([[0, 2, 5], [-1, 4, 5]], seen=6)
    layer.map_rows(lambda tensor: tensor.repeat_interleave(2, dim=0))
    assert layer.positions[:, 0].tolist() == [0, 0, -1, -1]
    assert layer.keys is not None
    assert layer.values is not None
    assert layer.valid is not None
    assert layer.keys[:, 0, 0, 0].tolist() == [0, 0, 100, 100]
    assert layer.valid[:, 0].tolist() == [True, True, False, False]
    layer.map_rows(lambda tensor: tensor[torch.tensor([3, 0])])
    assert layer.positions[:, 0].tolist() == [-1, 0]
    assert layer.keys[:, 0, 0, 0].tolist() == [100, 0]
    assert layer.values[:, 0, 0, 0].tolist() == [-100, 0]
    assert layer.valid[:, 0].tolist() == [False, True]
    assert layer.batch_size == 2


def test_a_window_hides_old_rows_in_decode_only() -> None:
    layer = prompt([[0, 1, 2, 3, 4, 5]], seen=6, window=4)
    assert layer.num_tokens == 6
    keys, _ = decode(layer)
    assert keys[0, 0, :, 0].tolist() == [3, 4, 5, 7]
    assert layer.num_tokens == 7
    keys, _ = decode(layer, 2)
    assert keys[0, 0, :, 0].tolist() == [4, 5, 7, 7, 7]  # the first of two sees three back
    assert layer.positions[0].tolist() == list(range(9))


def test_reset_forgets_everything() -> None:
    layer = prompt([[0, 2, 5], [-1, 4, 5]], seen=6)
    decode(layer)
    layer.expect(Ticket(1, 1))
    layer.reset()
    assert (layer.num_tokens, layer.get_seq_length(), layer.batch_size) == (0, 0, -1)
    assert layer.valid is None
    assert layer.ticket is None
    assert not layer.is_initialized


def test_what_a_layer_does_not_do() -> None:
    layer = FastAVLayer()
    with pytest.raises(UnsupportedError, match="offload"):
        layer.offload()
    assert not layer.is_compileable
    assert not layer.is_sliding
    assert not layer.supports_early_init
