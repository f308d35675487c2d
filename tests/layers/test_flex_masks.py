"""BlockMasks after a cut against the same cut of a dense mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask

from fastav_plugin.layers.held_tokens import HeldTokens
from fastav_plugin.layers.masks import cut_mask, last_columns, pick_columns, visible_to

#: More than two blocks of 128 rows.
LENGTH = 300
BATCH = 2
PADDING = 17


def rule(b: Any, h: Any, q: Any, k: Any) -> Any:
    """A sliding window of 90 rows over a batch whose second row is padded."""
    return (k <= q) & (k > q - 90) & ((k >= PADDING) | (b == 0))


def stock() -> BlockMask:
    return create_block_mask(rule, BATCH, None, LENGTH, LENGTH, device="cpu")


def dense(mask: BlockMask) -> Tensor:
    """What the rule says of every pair."""
    queries, keys = mask.seq_lengths
    return create_mask(mask.mask_mod, mask.shape[0], mask.shape[1], queries, keys, "cpu")


def assert_blocks_cover(mask: BlockMask) -> None:
    """No pair that the rule allows lies in a block that the kernel skips."""
    blocks = mask.to_dense().repeat_interleave(128, 2).repeat_interleave(128, 3).bool()
    queries, keys = mask.seq_lengths
    assert not (dense(mask) & ~blocks[:, :, :queries, :keys]).any()
    assert not blocks.all(), "nothing is skipped at all"


@pytest.mark.parametrize("ragged", [True, False])
def test_a_cut_asks_the_rule_at_the_indices_of_before(ragged: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.stack(
        [torch.randperm(LENGTH, generator=generator)[:270].sort().values for _ in range(BATCH)]
    )
    valid = torch.ones(rows.shape, dtype=torch.bool)
    valid[1, :9] = False
    given = valid if ragged else None
    cut = cut_mask(stock(), rows, given, flash=False, device=torch.device("cpu"))
    expected = cut_mask(dense(stock()), rows, given, flash=False, device=torch.device("cpu"))
    assert cut.seq_lengths == (270, 270)
    assert torch.equal(dense(cut), expected)
    assert_blocks_cover(cut)
    again = cut_mask(
        cut, torch.arange(0, 270, 2).expand(2, -1), None, flash=False, device=torch.device("cpu")
    )
    assert torch.equal(dense(again), expected[:, :, ::2, ::2])


@pytest.mark.parametrize("ragged", [True, False])
def test_a_later_turn_sees_what_a_layer_holds_and_itself(ragged: bool) -> None:
    """100 tokens of a turn, of which 80 go on, after a prompt of which 50 are held."""
    past, rows = LENGTH - 100, torch.arange(0, 100, 1)[20:].repeat(BATCH, 1)
    held = torch.arange(past - 50, past).repeat(BATCH, 1)
    valid = torch.ones(rows.shape, dtype=torch.bool) if ragged else None
    if valid is not None:
        valid[1, :6] = False
        held[1, :9] = -1

    def later(b: Any, h: Any, q: Any, k: Any) -> Any:
        return rule(b, h, q + past, k)

    mask = create_block_mask(later, BATCH, None, 100, LENGTH, device="cpu")
    known = HeldTokens(held, held >= 0 if ragged else None)
    cut = [
        cut_mask(one, rows, valid, flash=False, device=torch.device("cpu"), held=known)
        for one in (mask, dense(mask))
    ]
    assert cut[0].seq_lengths == (80, 130)
    assert torch.equal(dense(cut[0]), cut[1])


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("ragged", [True, False])
def test_later_tokens_look_at_the_columns_held(queries: int, ragged: bool) -> None:
    total = LENGTH + 5

    def later(b: Any, h: Any, q: Any, k: Any) -> Any:
        return rule(b, h, q + total - queries, k)

    mask = create_block_mask(later, BATCH, None, queries, total, device="cpu")
    positions = torch.arange(0, LENGTH, 3).repeat(BATCH, 1)
    valid = torch.ones(positions.shape, dtype=torch.bool)
    valid[1, :20] = False
    positions[1, :20] = -1
    given = valid if ragged else None
    if not ragged:
        positions = positions.clamp(min=0)
    picked = {
        kind: pick_columns(one, HeldTokens(positions, given), 5, visible=60, flash=False)
        for kind, one in (("block", mask), ("dense", dense(mask)))
    }
    assert torch.equal(dense(picked["block"]), picked["dense"])
    last = last_columns(mask, 40)
    assert torch.equal(dense(last), dense(mask)[..., -40:])


def test_what_one_query_sees() -> None:
    for query in (40, 299):
        seen = visible_to(stock(), query, query + 1)
        expected = visible_to(dense(stock()), query, query + 1)
        assert seen is not None and expected is not None
        assert torch.equal(seen, expected)
