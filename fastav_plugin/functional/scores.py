"""Attention that one query pays to each key: the score every adaptive cut uses."""

import torch
from torch import Tensor

from fastav_plugin.functional.float32 import in_float32

#: Numbers of the keys that are upcast at a time, so that no float32 copy of all is ever held.
BLOCK = 2**19


@in_float32
def query_scores(
    query: Tensor,
    keys: Tensor,
    *,
    scaling: float,
    mask: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Mean over heads of `softmax(q K^T * scaling)` for one query per batch row.

    Args:
        query: [B, H, D], the query as it enters attention (rotated).
        keys: [B, G, T, D] with H a multiple of G; each key head serves H / G query heads.
        scaling: factor on the logits, usually `D ** -0.5`.
        mask: bool (True = visible) or additive float, broadcastable to [B, H, T]; None = all
            visible.
        softcap: `tanh` cap on the logits, for models that use one.

    Returns:
        float32 [B, T]; each row sums to one, hidden keys are exactly 0.
    Reference: FastAV, section 2.2.
    """
    batch, heads, size = query.shape
    groups, tokens = keys.shape[1], keys.shape[2]
    grouped = query.float().view(batch, groups, heads // groups, size)
    if keys.dtype == torch.float32:
        logits = torch.matmul(grouped, keys.transpose(-1, -2))  # [B, G, H/G, T]
    else:
        # Products of 16-bit floats are exact in float32: only their sum rounds, block or not.
        logits = grouped.new_empty((batch, groups, heads // groups, tokens))
        width = max(1, BLOCK // (batch * groups * size))
        for start in range(0, tokens, width):
            block = keys[:, :, start : start + width].float().transpose(-1, -2)
            logits[..., start : start + width] = torch.matmul(grouped, block)
    logits = logits.view(batch, heads, tokens).mul_(scaling)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    if mask is not None:
        if mask.dtype == torch.bool:
            logits = logits.masked_fill(~mask, float("-inf"))
        else:
            logits = logits + mask.float()
    return torch.softmax(logits, dim=-1).mean(dim=1)
