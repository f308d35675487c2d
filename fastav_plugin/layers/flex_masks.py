"""Flex attention's masks: rules over indices, here asked about the survivors.

A BlockMask holds a function of batch row, head, query index and key index, and which blocks of
keys it lets each block of queries see. After a cut the same rule is asked at the indices that
tokens had before it, so causality, padding and sliding windows mean what they meant.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask

#: Whether a query sees a key: batch row, head, query index, key index -> bool.
_Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def cut_block_mask(
    mask: BlockMask, queries: Tensor, keys: Tensor, valid: Tensor | None, before: Tensor | None
) -> BlockMask:
    """The mask between the survivors, and from them to tokens of earlier turns.

    Args:
        mask: of [B or 1, 1 or H, T, N].
        queries: int64 [B, K], the survivors.
        keys: int64 [B, n + K], n tokens held from earlier turns, then the survivors.
        valid: bool [B, K], False for padding; None when every token is real.
        before: bool [B, n], False where a token held is padding; None when every one is real.

    Returns:
        A mask of [B, 1 or H, K, n + K]. Padding sees itself only.
    """
    rule, device = _rule(mask), mask.kv_indices.device
    queries, keys = queries.to(device), keys.to(device)
    shape = (queries.shape[0], queries.shape[1], keys.shape[1])
    held = keys.shape[1] - queries.shape[1]

    def among_survivors(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return rule(b, h, queries[b, q], keys[b, k])

    if valid is None:
        return _made(among_survivors, mask, shape)
    real = valid.to(device)
    real_keys = real if before is None else torch.cat([before.to(device), real], dim=1)

    def among_real_ones(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        seen = among_survivors(b, h, q, k) & real[b, q] & real_keys[b, k]
        return seen | ((q + held == k) & ~real[b, q])

    return _made(among_real_ones, mask, shape)


def pick_block_columns(mask: BlockMask, columns: Tensor, allowed: Tensor | None) -> BlockMask:
    """The mask of the same queries over some of the keys.

    Args:
        mask: of [B or 1, 1 or H, q, N].
        columns: int64 [B, K], keys of the mask to take; clamped to them.
        allowed: bool [B, K], False where no query may look; None for everywhere.
    """
    rule, device = _rule(mask), mask.kv_indices.device
    batch, queries, keys = columns.shape[0], mask.seq_lengths[0], columns.shape[1]
    columns = columns.clamp(min=0).to(device)

    def in_logical_columns(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return rule(b, h, q, columns[b, k])

    # A table: the queries are few, and a rule inside a rule would be compiled for each layer.
    seen = create_mask(in_logical_columns, batch, mask.shape[1], queries, keys, str(device))
    if allowed is not None:
        seen = seen & allowed.to(device)[:, None, None, :]

    batches, heads = seen.shape[:2]

    def in_table(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return seen[b if batches > 1 else 0, h if heads > 1 else 0, q, k]

    return _made(in_table, mask, (batch, queries, keys))


def visible_keys(mask: BlockMask, query: int, keys: int) -> Tensor:
    """What one query sees of the first `keys` keys: bool [B or 1, 1 or H, keys].

    The mask is of [B or 1, 1 or H, q, N].
    """
    rule, device = _rule(mask), mask.kv_indices.device

    def of_query(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return rule(b, h, q + query, k)

    return create_mask(of_query, mask.shape[0], mask.shape[1], 1, keys, str(device)).squeeze(2)


def _rule(mask: BlockMask) -> _Rule:
    rule: _Rule = mask.mask_mod
    return rule


def _made(rule: _Rule, like: BlockMask, shape: tuple[int, int, int]) -> BlockMask:
    batch, queries, keys = shape
    return create_block_mask(
        rule,
        batch,
        like.shape[1],
        queries,
        keys,
        device=str(like.kv_indices.device),
        BLOCK_SIZE=like.BLOCK_SIZE,
    )
