"""The arguments of a decoder layer, fitted to the rows that go on.

Every function takes `rows`, the index of the rows that go on: int64 [B, K] into the rows the
text model was called with, and `valid`: bool [B, K], False for padding, or None.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.layers.flex_masks import cut_block_mask, pick_block_columns, visible_keys

#: Keyword by which a request travels: decoder layer -> attention -> attention interface.
REQUEST = "fastav_request"


def gather(tensor: Tensor, rows: Tensor, dim: int) -> Tensor:
    """Rows along one dimension, by an index per batch row.

    Args:
        tensor: batch first, of size B or 1 (shared by all rows).
        rows: int64 [B, K]; follows the tensor's device.
        dim: the dimension to index.
    """
    rows = rows.to(tensor.device)
    if rows.shape[0] == 1 and tensor.shape[0] == 1:
        return tensor.index_select(dim, rows[0])
    batch = torch.arange(rows.shape[0], device=tensor.device)
    moved = tensor.movedim(dim, 1).expand(rows.shape[0], *tensor.movedim(dim, 1).shape[1:])
    return moved[batch[:, None], rows].movedim(1, dim)


def cut_rotary(embeddings: Any, rows: Tensor) -> Any:
    """Rotary embeddings of the rows: tensors [B or 1, T, D] in any nesting, cut along T."""
    if isinstance(embeddings, Tensor):
        if embeddings.dim() < 3:
            raise UnsupportedError(
                f"Cannot cut position embeddings of shape {tuple(embeddings.shape)}; "
                "expected [B, T, D]."
            )
        return gather(embeddings, rows, embeddings.dim() - 2)
    if isinstance(embeddings, (tuple, list)):
        return type(embeddings)(cut_rotary(item, rows) for item in embeddings)
    if isinstance(embeddings, dict):
        return {name: cut_rotary(item, rows) for name, item in embeddings.items()}
    if embeddings is None:
        return None
    raise UnsupportedError(f"Cannot cut position embeddings of type {type(embeddings).__name__}.")


def cut_positions(positions: Tensor | None, rows: Tensor) -> Tensor | None:
    """Position ids of the rows: [B or 1, T], or [n, B or 1, T] where positions have n parts.

    Not for flash attention, which reads gaps in them as packed sequences: it gets None.
    """
    if positions is None or positions.dim() == 2:
        return None if positions is None else gather(positions, rows, 1)
    return torch.stack([gather(part, rows, 1) for part in positions])


def cut_kinds(kinds: Tensor | None, rows: Tensor) -> Tensor | None:
    """What a family tells its layers of each row: [B, T], or None."""
    return None if kinds is None else gather(kinds, rows, 1)


def cut_mask(
    mask: Any,
    rows: Tensor,
    valid: Tensor | None,
    *,
    flash: bool,
    device: torch.device,
    held: tuple[Tensor, Tensor | None] | None = None,
) -> Any:
    """The attention mask from the rows that go on to them, and to rows held from earlier turns.

    Args:
        mask: what the model's loop passed: None, a 2-D padding mask (flash attention), a
            BlockMask (flex attention), or a 4-D bool or additive mask; the last two of
            [B or 1, 1 or H, T, N], N - T logical columns of earlier turns.
        rows: int64 [B, K].
        valid: bool [B, K] or None.
        flash: whether the base attention takes 2-D masks.
        device: where a mask is made, if there is none to cut.
        held: logical columns of the n rows held (int64 [B, n], -1 for padding) and their validity
            (bool [B, n] or None); None for n = 0.

    Returns:
        None, 2-D [B, n + K], or a 4-D mask or BlockMask of [B, 1 or H, K, n + K]. Padding rows see
        themselves only.
    """
    # With layers on several devices the loop's mask stays on the first of them.
    device = mask.device if isinstance(mask, Tensor) else device
    valid = None if valid is None else valid.to(device)
    before = None if held is None else held[1]
    if before is not None or (held is not None and valid is not None):
        assert held is not None
        before = (held[0] >= 0).to(device)
        valid = torch.ones_like(rows, dtype=torch.bool, device=device) if valid is None else valid
    if mask is None or (isinstance(mask, Tensor) and mask.dim() == 2):
        if valid is None and (flash or held is None):
            return None
        if valid is None:
            assert held is not None
            before, valid = (torch.ones_like(x, dtype=torch.bool) for x in (held[0], rows))
        if flash:
            return valid if before is None else torch.cat([before, valid], dim=1)
        return _causal(valid, before)
    if not isinstance(mask, BlockMask) and not (isinstance(mask, Tensor) and mask.dim() == 4):
        raise UnsupportedError(
            f"Cannot cut an attention mask of type {type(mask).__name__}. Use "
            'attn_implementation="sdpa", "eager", "flex_attention" or "flash_attention_2".'
        )
    rows = rows.to(device)
    columns = rows
    if held is not None:
        past = mask.shape[-1] - mask.shape[-2]
        columns = torch.cat([held[0].to(device).clamp(min=0), past + rows], dim=1)
    if isinstance(mask, BlockMask):
        return cut_block_mask(mask, rows, columns, valid, before)
    rows, columns = rows.to(mask.device), columns.to(mask.device)
    if rows.shape[0] == 1 and mask.shape[0] == 1:
        cut = mask.index_select(2, rows[0]).index_select(3, columns[0])
    else:
        batch = torch.arange(rows.shape[0], device=mask.device)[:, None, None]
        full = mask.expand(rows.shape[0], *mask.shape[1:]).movedim(1, -1)
        cut = full[batch, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    if valid is None:
        return cut
    real, itself = _real_pairs(valid, before)
    if cut.dtype == torch.bool:
        return (cut & real) | itself
    return cut.masked_fill(~real, torch.finfo(cut.dtype).min).masked_fill(itself, 0.0)


def _causal(valid: Tensor, before: Tensor | None) -> Tensor:
    """Bool [B, 1, K, n + K]: causal among real rows, padding rows see themselves only."""
    real, itself = _real_pairs(valid, before)
    past = real.shape[-1] - real.shape[-2]
    causal = torch.ones(real.shape[-2:], dtype=torch.bool, device=valid.device).tril(past)
    return real & causal | itself


def _real_pairs(valid: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """Bool [B, 1, K, n + K] each: both rows real; a padding row with itself.

    A padding row that saw nothing would be a softmax over nothing: NaN, which spreads.

    Args:
        valid: bool [B, K].
        before: bool [B, n], validity of rows held from earlier turns; None for n = 0.
    """
    size = valid.shape[1]
    seen = valid if before is None else torch.cat([before, valid], dim=1)
    past = seen.shape[1] - size
    diagonal = torch.ones((size, past + size), dtype=torch.bool, device=valid.device)
    diagonal = diagonal.tril(past).triu(past)
    real = seen[:, None, None, :] & valid[:, None, :, None]
    return real, diagonal & ~valid[:, None, :, None]


def pick_columns(
    mask: Any, head: Tensor, head_valid: Tensor | None, tail: int, *, seen: int, flash: bool
) -> Any:
    """The mask of later rows, made in logical columns, at the columns one layer holds.

    Args:
        mask: None, 2-D [B, N], or 4-D or a BlockMask of [B or 1, 1 or H, q, N] with N the logical
            length.
        head: int64 [B, h], logical columns of the prompt rows held, -1 for padding.
        head_valid: bool [B, h] or None.
        tail: columns after the prompt, all held.
        seen: how many of the last rows the layer attends to.
        flash: whether the base attention takes 2-D masks.
    """
    if mask is None and head_valid is None:
        return None
    if mask is None:
        assert head_valid is not None
        allowed = torch.nn.functional.pad(head_valid, (0, tail), value=True)[:, -seen:]
        return allowed if flash else allowed[:, None, None, :]
    if isinstance(mask, BlockMask):
        length = mask.seq_lengths[1]
        rest = torch.arange(length - tail, length, device=head.device).expand(head.shape[0], -1)
        columns = torch.cat([head, rest], dim=1)
        real = None if head_valid is None else (columns >= 0)[:, -seen:]
        return pick_block_columns(mask, columns[:, -seen:], real)
    if not isinstance(mask, Tensor) or mask.dim() not in (2, 4):
        raise UnsupportedError(f"Cannot cut an attention mask of type {type(mask).__name__}.")
    head = head.to(mask.device)
    batch = head.shape[0]
    full = mask.expand(batch, *mask.shape[1:])
    columns = head.clamp(min=0)
    if mask.dim() == 4:
        columns = columns[:, None, None, :].expand(-1, full.shape[1], full.shape[2], -1)
    kept = full.gather(-1, columns)
    if head_valid is not None:
        allowed = head_valid.to(mask.device)
        allowed = allowed if mask.dim() == 2 else allowed[:, None, None, :]
        if mask.dtype == torch.bool:
            kept = kept & allowed
        else:
            low = 0 if not mask.is_floating_point() else torch.finfo(mask.dtype).min
            kept = kept.masked_fill(~allowed, low)
    last = full[..., full.shape[-1] - tail :]
    return torch.cat([kept, last], dim=-1)[..., -seen:]


def last_columns(mask: Any, seen: int) -> Any:
    """The mask over the last `seen` keys only; None stays None."""
    if isinstance(mask, BlockMask):
        length = mask.seq_lengths[1]
        columns = torch.arange(length - seen, length, device=mask.kv_indices.device)
        return pick_block_columns(mask, columns.expand(mask.shape[0], -1), None)
    return mask[..., mask.shape[-1] - seen :] if isinstance(mask, Tensor) else mask


def visible_to(mask: Any, query: int, keys: int) -> Tensor | None:
    """What one query sees of the first `keys` keys, by the mask attention got.

    Returns:
        [B or 1, 1 or H, keys], bool or additive; None if the mask does not say.
    """
    if isinstance(mask, BlockMask):
        return visible_keys(mask, query, keys)
    if isinstance(mask, Tensor) and mask.dim() == 4:
        # A slice of one, because torch.compile would take an index for a constant.
        return mask[:, :, query : query + 1, :keys].squeeze(2)
    return mask[:, None, :keys] != 0 if isinstance(mask, Tensor) else None
