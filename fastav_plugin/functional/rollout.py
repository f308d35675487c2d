"""Attention rollout of one row vector, exact, without ever building an n x n matrix."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from fastav_plugin.errors import ConfigError
from fastav_plugin.functional.float32 import in_float32, inner_products, pack

#: Queries worked on at a time on a CPU, so that their weights stay in its cache; the largest
#: temporary is [H / G, BLOCK, n] in float32. Other devices, slow to start, take `WIDE` times more.
BLOCK = 64
WIDE = 8


@in_float32
def rollout_row(
    row: Tensor,
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    alpha: float = 0.5,
    *,
    valid: Tensor | None = None,
    scaling: float | None = None,
) -> Tensor:
    """`row @ R` with R the attention rollout of the given layers.

    R = Ã_L ... Ã_1 and Ã_l = alpha A_l + (1 - alpha) I, where A_l is the head mean of layer l's
    causal attention. The product is taken from the left, so only vectors are kept, and of each
    layer the attention weights of a few queries at a time. `row = 1` gives R's column sums,
    `row = e_last` its last row.

    Args:
        row: [n] or [B, n]; one batch of queries and keys may serve all rows.
        queries: per layer, lowest first: [H, n, D] or [B, H, n, D], as they enter attention.
        keys: per layer, lowest first: [G, n, D] or [B, G, n, D]; H is a multiple of G.
        alpha: weight of attention against the residual path, in [0, 1].
        valid: bool [n] or [B, n], False for padding, which no real row attends to and which
            attends only to itself. None means no padding.
        scaling: factor on the logits; None means `D ** -0.5`.

    Returns:
        float32, shaped like `row`.

    Raises:
        ConfigError: alpha out of range, or lists and shapes that do not fit.
    Reference: FastAV, section 2.1; Abnar and Zuidema, Quantifying Attention Flow (2020).
    """
    # By hand: the config's check_ratio lies above this room.
    if not 0 <= alpha <= 1:
        raise ConfigError(f"`alpha` must lie in [0, 1], got {alpha!r}.")
    if len(queries) != len(keys):
        raise ConfigError(f"Got {len(queries)} layers of queries and {len(keys)} of keys.")
    result = (row if row.dim() == 2 else row.unsqueeze(0)).float()
    padding = valid.unsqueeze(0) if valid is not None and valid.dim() == 1 else valid
    for query, key in zip(reversed(queries), reversed(keys), strict=True):
        query = query if query.dim() == 4 else query.unsqueeze(0)
        key = key if key.dim() == 4 else key.unsqueeze(0)
        _check_shapes(result, query, key, padding)
        factor = query.shape[-1] ** -0.5 if scaling is None else scaling
        attended = _row_times_attention(result, query, key, factor, padding)
        result = alpha * attended + (1 - alpha) * result
    return result.reshape(row.shape)


def weights_made(tokens: Tensor) -> Tensor:
    """Attention weights of one head that `rollout_row` makes of so many tokens: int64, alike.

    Each takes D multiply-accumulates, and one more for each row vector it is multiplied by. A block
    of queries is made with all keys up to its last one; blocks are those of a CPU. The wider ones
    of other devices add up to `BLOCK` * `WIDE` / 2 keys for each query.
    """
    blocks, rest = tokens // BLOCK, tokens % BLOCK
    return BLOCK * BLOCK * (blocks * (blocks + 1) // 2) + rest * tokens


def _check_shapes(row: Tensor, query: Tensor, key: Tensor, valid: Tensor | None) -> None:
    given = [row, query, key] if valid is None else [row, query, key, valid]
    lengths = {tensor.shape[1 if tensor.dim() == 2 else 2] for tensor in given}
    batches = {tensor.shape[0] for tensor in given}
    heads_fit = query.shape[1] % key.shape[1] == 0 and query.shape[3] == key.shape[3]
    rows_fit = row.shape[0] >= max(batches) and len(batches - {1}) <= 1
    # Padding is of the keys: queries and keys that serve several rows have one of their own.
    rows_fit &= valid is None or valid.shape[0] in (1, query.shape[0])
    if len(lengths) != 1 or not heads_fit or not rows_fit or query.shape[0] != key.shape[0]:
        shapes = [tuple(tensor.shape) for tensor in given]
        raise ConfigError(
            f"Row, queries, keys and validity do not fit: {shapes}; expected [B, n], "
            "[B, H, n, D], [B, G, n, D] with H a multiple of G, and [B, n]."
        )


def _row_times_attention(
    row: Tensor, query: Tensor, key: Tensor, scaling: float, valid: Tensor | None
) -> Tensor:
    """`row @ A` for one layer: row float32 [B, n], query [B, H, n, D], key [B, G, n, D]."""
    batch, heads, length, size = query.shape
    groups = key.shape[1]
    grouped = query.reshape(batch, groups, -1, length, size)  # [B, G, H/G, n, D]
    result = torch.zeros_like(row)
    index = torch.arange(length, device=row.device)
    width = BLOCK if row.device.type == "cpu" else BLOCK * WIDE
    for sample, group in itertools.product(range(batch), range(groups)):
        # Queries and keys of batch 1 serve all rows.
        rows = slice(sample, sample + 1) if batch > 1 else slice(None)
        own = key[sample, group].float()  # [n, D]
        for start in range(0, length, width):
            stop = min(start + width, length)
            block = grouped[sample, group, :, start:stop].float() * scaling  # [H/G, b, D]
            logits = inner_products(pack(block.reshape(-1, size)), pack(own[:stop]))
            logits = logits.view(-1, stop - start, stop)
            # Only the block's own keys can lie after one of its queries.
            after = index[start:stop] > index[start:stop, None]  # [b, b]
            logits[:, :, start:].masked_fill_(after, float("-inf"))
            if valid is not None:
                real = valid[sample if len(valid) > 1 else 0]
                itself = index[:stop] == index[start:stop, None]
                seen = (real[:stop] & real[start:stop, None]) | itself  # [b, stop]
                logits.masked_fill_(~seen, float("-inf"))
            weights = torch.softmax(logits, dim=-1)  # [H/G, b, stop]
            part = row[rows, None, None, start:stop] / heads  # [B, 1, 1, b]
            result[rows, :stop] += torch.matmul(part, weights).sum(dim=(1, 2))
    return result
