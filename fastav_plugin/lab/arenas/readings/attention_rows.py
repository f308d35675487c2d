"""The attention that the text after the media pays to them, read in every layer of one prefill.

Only the rows of that text are computed, one layer at a time, so no map of T x T is ever held.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.layers.causality import refuse_softcap
from fastav_plugin.model_overrides.base import Parts
from fastav_plugin.upstream.attention import (
    SCALING,
    SOFTCAP,
    function_of,
    implementation,
    register,
    renamed_copy,
)

_PREFIX = "fastav_rows_"
_READER = "_fastav_rows_reader"


@dataclass(frozen=True)
class AttentionRows:
    """What one layer's attention says of N media tokens.

    Attributes:
        last: float32 [N], attention of the last query, mean over heads. It sums to the share that
            media have of the whole.
        highest: float32 [N], the same, maximum over heads.
        valued: float32 [N], the same, each head's attention times the norm of the value.
        question: float32 [N], mean over heads and over all rows after the media.
        before: float32 [N], of the first row after the media, which has not seen the question.
    """

    last: Tensor
    highest: Tensor
    valued: Tensor
    question: Tensor
    before: Tensor


def read_rows(
    query: Tensor, keys: Tensor, values: Tensor, media: Tensor, *, scaling: float
) -> AttentionRows:
    """Attention of the rows after the media, of one prompt under full causal attention.

    Args:
        query: [1, H, T, D], as it enters attention.
        keys: [1, G, T, D] with H a multiple of G.
        values: [1, G, T, E].
        media: int64 [N], positions of the media, ascending; text follows them.
        scaling: factor on the logits.
    """
    heads, length = query.shape[1], query.shape[2]
    start = int(media[-1]) + 1
    own_keys, own_values = (
        each[0].float().repeat_interleave(heads // each.shape[1], dim=0) for each in (keys, values)
    )
    rows = torch.arange(start, length, device=query.device)
    hidden = torch.arange(length, device=query.device) > rows[:, None]  # [R, T]
    logits = query[0, :, start:].float() @ own_keys.transpose(1, 2) * scaling  # [H, R, T]
    attention = logits.masked_fill(hidden, float("-inf")).softmax(dim=-1)[:, :, media]
    last = attention[:, -1]
    return AttentionRows(
        last=last.mean(dim=0),
        highest=last.amax(dim=0),
        valued=(last * own_values[:, media].norm(dim=-1)).mean(dim=0),
        question=attention.mean(dim=(0, 1)),
        before=attention[:, 0].mean(dim=0),
    )


@contextmanager
def reading_rows(parts: Parts, media: Tensor) -> Iterator[list[AttentionRows]]:
    """Read every layer of the first prefill in the block.

    Each attention module gets a copy of its config with another name of attention; the function of
    that name reads, and calls the stock one.

    Args:
        parts: of a model without anything attached.
        media: int64 [N], positions of the media.

    Yields:
        A list that is empty at first, and has one entry a layer after the prefill.
    """
    found: list[AttentionRows] = []
    originals = [module.config for module in parts.attentions]
    base = implementation(originals[0])
    register(_PREFIX + base, _observed(base))
    reader = _Reader(media, len(originals), found)
    try:
        for module in parts.attentions:
            renamed = renamed_copy(module.config, _PREFIX + base)
            object.__setattr__(renamed, _READER, reader)
            module.config = renamed
        yield found
    finally:
        for module, original in zip(parts.attentions, originals, strict=True):
            module.config = original


@dataclass
class _Reader:
    """Adds to a list until it has an entry for each layer."""

    media: Tensor
    layers: int
    found: list[AttentionRows]

    def read(self, query: Tensor, keys: Tensor, values: Tensor, kwargs: dict[str, Any]) -> None:
        """Called inside attention, layer after layer."""
        if len(self.found) == self.layers:
            return
        refuse_softcap(kwargs.get(SOFTCAP))
        scaling = kwargs.get(SCALING)
        factor = query.shape[-1] ** -0.5 if scaling is None else scaling
        with torch.no_grad():
            self.found.append(read_rows(query, keys, values, self.media, scaling=factor))


def _observed(base: str) -> Any:
    def rows_attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any
    ) -> Any:
        getattr(module.config, _READER).read(query, key, value, kwargs)
        return function_of(base, module)(module, query, key, value, mask, **kwargs)

    return rows_attention
