"""Attention masks of a decoder layer, cut to the survivors and to the tokens it holds."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.layers.flex_masks import cut_block_mask, pick_block_columns, visible_keys
from fastav_plugin.layers.held_tokens import HeldTokens


def cut_mask(
    mask: Any,
    index: Tensor,
    valid: Tensor | None,
    *,
    flash: bool,
    device: torch.device,
    held: HeldTokens | None = None,
) -> Any:
    """The attention mask between the survivors, and from them to tokens of earlier turns.

    Args:
        mask: what the model's loop passed: None, a 2-D padding mask (flash attention), a
            BlockMask (flex attention), or a 4-D bool or additive mask; the last two of
            [B or 1, 1 or H, T, N], with N - T columns for the tokens of earlier turns.
        index: int64 [B, K], the survivors among the tokens of this forward.
        valid: bool [B, K], False for padding, or None.
        flash: whether the base attention takes 2-D masks.
        device: where a mask is made, if there is none to cut.
        held: the n tokens of earlier turns that the layer holds; None for n = 0.

    Returns:
        None, 2-D [B, n + K], or a 4-D mask or BlockMask of [B, 1 or H, K, n + K]. Padding sees
        itself only.
    """
    # With layers on several devices the loop's mask stays on the first of them.
    device = mask.device if isinstance(mask, Tensor) else device
    valid = None if valid is None else valid.to(device)
    before = None if held is None else held.valid
    if before is not None or (held is not None and valid is not None):
        assert held is not None
        before = (held.positions >= 0).to(device)
        valid = torch.ones_like(index, dtype=torch.bool, device=device) if valid is None else valid
    if mask is None or (isinstance(mask, Tensor) and mask.dim() == 2):
        if valid is None and (flash or held is None):
            return None
        if valid is None:
            assert held is not None
            before, valid = (torch.ones_like(x, dtype=torch.bool) for x in (held.positions, index))
        if flash:
            return valid if before is None else torch.cat([before, valid], dim=1)
        return _causal(valid, before)
    if not isinstance(mask, BlockMask) and not (isinstance(mask, Tensor) and mask.dim() == 4):
        raise UnsupportedError(
            f"Cannot cut an attention mask of type {type(mask).__name__}. Use "
            'attn_implementation="sdpa", "eager", "flex_attention" or "flash_attention_2".'
        )
    index = index.to(device)
    columns = index
    if held is not None:
        past = mask.shape[-1] - mask.shape[-2]
        columns = torch.cat([held.positions.to(device).clamp(min=0), past + index], dim=1)
    if isinstance(mask, BlockMask):
        return cut_block_mask(mask, index, columns, valid, before)
    index, columns = index.to(mask.device), columns.to(mask.device)
    if index.shape[0] == 1 and mask.shape[0] == 1:
        cut = mask.index_select(2, index[0]).index_select(3, columns[0])
    else:
        batch = torch.arange(index.shape[0], device=mask.device)[:, None, None]
        full = mask.expand(index.shape[0], *mask.shape[1:]).movedim(1, -1)
        cut = full[batch, index[:, :, None], columns[:, None, :]].movedim(-1, 1)
    if valid is None:
        return cut
    real, itself = _real_pairs(valid, before)
    if cut.dtype == torch.bool:
        return (cut & real) | itself
    return cut.masked_fill(~real, torch.finfo(cut.dtype).min).masked_fill(itself, 0.0)


def _causal(valid: Tensor, before: Tensor | None) -> Tensor:
    """Bool [B, 1, K, n + K]: causal among real tokens, padding sees itself only."""
    real, itself = _real_pairs(valid, before)
    past = real.shape[-1] - real.shape[-2]
    causal = torch.ones(real.shape[-2:], dtype=torch.bool, device=valid.device).tril(past)
    return real & causal | itself


def _real_pairs(valid: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """Bool [B, 1, K, n + K] each: both tokens real; padding with itself.

    Padding that saw nothing would be a softmax over nothing: NaN, which spreads.

    Args:
        valid: bool [B, K].
        before: bool [B, n], validity of tokens held from earlier turns; None for n = 0.
    """
    size = valid.shape[1]
    seen = valid if before is None else torch.cat([before, valid], dim=1)
    past = seen.shape[1] - size
    diagonal = torch.ones((size, past + size), dtype=torch.bool, device=valid.device)
    diagonal = diagonal.tril(past).triu(past)
    real = seen[:, None, None, :] & valid[:, None, :, None]
    return real, diagonal & ~valid[:, None, :, None]


def pick_columns(mask: Any, prompt: HeldTokens, appended: int, *, visible: int, flash: bool) -> Any:
    """The mask of later tokens, made for all seen tokens, at the columns that one layer holds.

    Args:
        mask: None, 2-D [B, N], or 4-D or a BlockMask of [B or 1, 1 or H, q, N] with N the seen
            tokens.
        prompt: the prompt tokens held, [B, h].
        appended: columns after the prompt, all held.
        visible: how many of the last tokens held the layer attends to.
        flash: whether the base attention takes 2-D masks.
    """
    positions, valid = prompt.positions, prompt.valid
    if mask is None:
        if valid is None:
            return None
        allowed = torch.nn.functional.pad(valid, (0, appended), value=True)[:, -visible:]
        return allowed if flash else allowed[:, None, None, :]
    if isinstance(mask, BlockMask):
        length = mask.seq_lengths[1]
        rest = torch.arange(length - appended, length, device=positions.device)
        rest = rest.expand(positions.shape[0], -1)
        columns = torch.cat([positions, rest], dim=1)
        real = None if valid is None else (columns >= 0)[:, -visible:]
        return pick_block_columns(mask, columns[:, -visible:], real)
    if not isinstance(mask, Tensor) or mask.dim() not in (2, 4):
        raise UnsupportedError(f"Cannot cut an attention mask of type {type(mask).__name__}.")
    positions = positions.to(mask.device)
    full = mask.expand(positions.shape[0], *mask.shape[1:])
    columns = positions.clamp(min=0)
    if mask.dim() == 4:
        columns = columns[:, None, None, :].expand(-1, full.shape[1], full.shape[2], -1)
    kept = full.gather(-1, columns)
    if valid is not None:
        allowed = valid.to(mask.device)
        allowed = allowed if mask.dim() == 2 else allowed[:, None, None, :]
        if mask.dtype == torch.bool:
            kept = kept & allowed
        else:
            low = 0 if not mask.is_floating_point() else torch.finfo(mask.dtype).min
            kept = kept.masked_fill(~allowed, low)
    last = full[..., full.shape[-1] - appended :]
    return torch.cat([kept, last], dim=-1)[..., -visible:]


def last_columns(mask: Any, count: int) -> Any:
    """The mask over the last `count` keys only; None stays None."""
    if isinstance(mask, BlockMask):
        length = mask.seq_lengths[1]
        columns = torch.arange(length - count, length, device=mask.kv_indices.device)
        return pick_block_columns(mask, columns.expand(mask.shape[0], -1), None)
    return mask[..., mask.shape[-1] - count :] if isinstance(mask, Tensor) else mask


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
