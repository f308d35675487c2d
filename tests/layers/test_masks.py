"""Masks of a layer, cut to the survivors and to the tokens it holds."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastav_plugin import UnsupportedError
from fastav_plugin.layers.held_tokens import HeldTokens
from fastav_plugin.layers.masks import cut_mask, pick_columns

LOW = torch.finfo(torch.float32).min
CPU = torch.device("cpu")


def causal(length: int, batch: int = 1, pads: tuple[int, ...] = ()) -> Tensor:
    """Bool [B, 1, T, T] as transformers builds it; row b has pads[b] hidden keys on the left."""
    mask = torch.ones(length, length).tril().bool().expand(batch, 1, length, length).clone()
    for row, count in enumerate(pads):
        mask[row, :, :, :count] = False
    return mask


def additive(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape).masked_fill(~mask, LOW)


INDEX = torch.tensor([[0, 2, 3, 5], [0, 0, 4, 5]])
VALID = torch.tensor([[True] * 4, [False, False, True, True]])


@pytest.mark.parametrize("floating", [False, True])
def test_a_mask_without_padding_is_the_mask_at_the_survivors(floating: bool) -> None:
    mask = causal(6, 2, (0, 2))
    mask = additive(mask) if floating else mask
    rows = torch.tensor([[0, 2, 3, 5], [2, 3, 4, 5]])
    cut = cut_mask(mask, rows, None, flash=False, device=CPU)
    for row in range(2):
        index = rows[row]
        assert torch.equal(cut[row, 0], mask[row, 0][index][:, index])


def visible(mask: Tensor) -> Tensor:
    return mask if mask.dtype == torch.bool else mask > LOW / 2


@pytest.mark.parametrize("source", ["none", "bool", "additive", "padding", "shared"])
def test_ragged_masks_hide_padding_and_padding_sees_itself(source: str) -> None:
    masks: dict[str, Tensor | None] = {
        "none": None,
        "bool": causal(6, 2),
        "additive": additive(causal(6, 2)),
        "padding": torch.ones(2, 6),
        "shared": causal(6),
    }
    cut = cut_mask(masks[source], INDEX, VALID, flash=False, device=CPU)
    assert cut.shape == (2, 1, 4, 4)
    seen = visible(cut)[:, 0]
    assert torch.equal(seen[0], torch.ones(4, 4).tril().bool())
    expected = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]).bool()
    assert torch.equal(seen[1], expected)
    assert seen.any(dim=-1).all(), "a row that sees nothing is a softmax over nothing"


def test_prompt_padding_stays_hidden_in_a_cut_that_keeps_it() -> None:
    mask = causal(6, 2, (0, 2))
    rows = torch.tensor([[0, 1, 3, 5], [1, 2, 3, 5]])
    valid = torch.tensor([[True] * 4, [False, True, True, True]])
    seen = cut_mask(mask, rows, valid, flash=False, device=CPU)[1, 0]
    assert seen[1:, 0].sum() == 0
    assert seen[0].tolist() == [True, False, False, False]


def test_flash_gets_two_dimensional_masks() -> None:
    assert cut_mask(None, INDEX, None, flash=True, device=CPU) is None
    assert torch.equal(cut_mask(None, INDEX, VALID, flash=True, device=CPU), VALID)
    padding = torch.tensor([[1] * 6, [0, 0, 0, 0, 1, 1]])
    assert cut_mask(padding, INDEX, None, flash=True, device=CPU) is None
    assert torch.equal(cut_mask(padding, INDEX, VALID, flash=True, device=CPU), VALID)


def test_a_head_dimension_is_kept() -> None:
    mask = causal(6, 2).expand(2, 3, 6, 6).clone()
    mask[:, 1, 5, 3] = False
    cut = cut_mask(mask, INDEX, None, flash=False, device=CPU)
    assert cut.shape == (2, 3, 4, 4)
    assert not cut[0, 1, 3, 2]
    assert cut[0, 0, 3, 2]


@pytest.mark.parametrize("wrong", ["mask", torch.ones(2, 6, 6), {"full_attention": None}])
def test_unknown_masks_are_refused(wrong: Any) -> None:
    with pytest.raises(UnsupportedError, match="attention mask"):
        cut_mask(wrong, INDEX, None, flash=False, device=CPU)
    with pytest.raises(UnsupportedError, match="attention mask"):
        pick_columns(wrong, HeldTokens(INDEX), 1, visible=5, flash=False)


POSITIONS = torch.tensor([[0, 2, 5], [-1, 4, 5]])
HELD = HeldTokens(POSITIONS, POSITIONS >= 0)


@pytest.mark.parametrize("floating", [False, True])
def test_columns_of_later_tokens(floating: bool) -> None:
    mask = torch.ones((2, 1, 2, 8), dtype=torch.bool)
    mask[1, :, :, 4] = False  # hidden by the user's own mask
    mask[:, :, 0, 7] = False  # the first of two new tokens does not see the second
    mask = additive(mask) if floating else mask
    picked = visible(pick_columns(mask, HELD, 2, visible=5, flash=False))[:, 0]
    assert picked.tolist() == [
        [[True, True, True, True, False], [True] * 5],
        [[False, False, True, True, False], [False, False, True, True, True]],
    ]


def test_columns_where_the_model_has_no_mask() -> None:
    assert pick_columns(None, HeldTokens(POSITIONS), 2, visible=5, flash=False) is None
    picked = pick_columns(None, HELD, 1, visible=4, flash=False)
    assert picked.tolist() == [[[[True] * 4]], [[[False, True, True, True]]]]
    flat = pick_columns(None, HELD, 1, visible=3, flash=True)
    assert flat.tolist() == [[True] * 3, [True] * 3]


def test_columns_of_a_padding_mask() -> None:
    mask = torch.tensor([[1] * 8, [0, 0, 0, 0, 1, 1, 1, 1]])
    picked = pick_columns(mask, HELD, 2, visible=5, flash=True)
    assert picked.bool().tolist() == [[True] * 5, [False, True, True, True, True]]
    assert pick_columns(mask, HELD, 2, visible=2, flash=True).shape == (2, 2)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), length=st.integers(2, 9), batch=st.integers(1, 3))
def test_property_cut_mask_is_causal_among_real_tokens(
    data: st.DataObject, length: int, batch: int
) -> None:
    kept = [
        sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1))) for _ in range(batch)
    ]
    most = max(map(len, kept))
    rows = torch.tensor([[0] * (most - len(row)) + row for row in kept])
    valid = torch.tensor([[False] * (most - len(row)) + [True] * len(row) for row in kept])
    with_mask = cut_mask(causal(length, batch), rows, valid, flash=False, device=CPU)
    without = cut_mask(None, rows, valid, flash=False, device=CPU)
    assert torch.equal(with_mask, without.expand_as(with_mask))
