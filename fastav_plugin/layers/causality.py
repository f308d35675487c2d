"""Whether attention is the plain causal softmax over all earlier tokens that rollout multiplies."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.errors import UnsupportedError

#: Queries whose masks are compared at a time.
_BLOCK = 256

_REMEDY = "Use a method that needs no rollout, such as 'fastav' or 'divprune'."


def refuse_other_attention(
    attention: str, modules: Iterable[nn.Module], windows: Iterable[int | None], length: int
) -> None:
    """Refuse, before they are run, layers that a rollout goes through and that attend otherwise.

    `windows` are their sliding windows, `length` the tokens of the conversation.
    """
    if attention == "flex_attention":
        raise UnsupportedError(
            "Attention rollout is not read from flex_attention. Use attn_implementation='sdpa', "
            "'eager' or 'flash_attention_2'."
        )
    narrow = min((window for window in windows if window), default=length)
    if narrow < length:
        raise UnsupportedError(
            f"Attention rollout needs layers that see the whole prompt: it has {length} positions, "
            f"and a layer below the cut a sliding window of {narrow}. {_REMEDY}"
        )
    for module in modules:
        if getattr(module, "is_causal", True) is False:
            raise UnsupportedError(
                f"Attention rollout needs causal attention, and {type(module).__name__}'s is "
                f"bidirectional. {_REMEDY}"
            )


def refuse_softcap(softcap: float | None) -> None:
    """Refuse a softcap on the logits, which rollout does not apply."""
    if softcap is not None:
        raise UnsupportedError(
            f"Attention rollout supports no softcap on the logits (this model's is {softcap}). "
            f"{_REMEDY}"
        )


def refuse_other_mask(mask: Any, valid: Tensor | None, before: Tensor | None, past: int) -> None:
    """Refuse a mask that hides more, or less, than later tokens and padding.

    Args:
        mask: what attention got: None, 2-D (padding only), or bool or additive
            [B or 1, 1 or H, K, N] with N >= past + K.
        valid: bool [B, K], False for padding; None when all K tokens are real.
        before: the same of the tokens of earlier turns, bool [B, past].
        past: tokens of earlier turns.
    """
    if mask is None or (isinstance(mask, Tensor) and mask.dim() == 2):
        return
    if not isinstance(mask, Tensor):
        raise UnsupportedError(
            f"Attention rollout cannot read a mask of type {type(mask).__name__}. {_REMEDY}"
        )
    count, device = mask.shape[2], mask.device
    valid = torch.ones((1, count), dtype=torch.bool) if valid is None else valid
    before = valid.new_ones((1, past)) if before is None else before
    valid, before = valid.to(device), before.to(device)
    batch = max(len(valid), len(before))
    seen = torch.cat([before.expand(batch, -1), valid.expand(batch, -1)], dim=1)
    columns = torch.arange(past + count, device=device)
    odd = torch.zeros((), dtype=torch.bool, device=device)
    for start in range(0, count, _BLOCK):
        part = mask[:, :, start : start + _BLOCK, : past + count]
        queries = columns[past + start : past + start + part.shape[2], None]
        expected = (columns <= queries) & seen[:, None, None, :]
        wrong = (part if part.dtype == torch.bool else part == 0) != expected
        if part.dtype != torch.bool:
            wrong = wrong | ((part != 0) & (part > torch.finfo(part.dtype).min / 2))
        # What padding sees is nobody's concern.
        odd |= (wrong & valid[:, None, start : start + _BLOCK, None]).any()
    if odd:
        raise UnsupportedError(
            "Attention rollout needs plain causal attention, and this model's mask differs from "
            f"it: bidirectional attention between image tokens, for instance. {_REMEDY}"
        )
