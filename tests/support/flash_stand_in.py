"""A CPU stand-in for flash attention: its contract, with the mathematics of sdpa."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.support.families import FAMILIES, build

FLASH = "flash_attention_2"


def flash_stand_in(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal from the bottom right, over the keys that a 2-D mask leaves.

    The kernel is found by the config's name, and gaps in `position_ids` would split one sequence
    into several, so both are checked here.
    """
    config: Any = module.config
    assert config._attn_implementation == FLASH
    positions = kwargs.get("position_ids")
    queries, keys = query.shape[2], key.shape[2]
    if positions is not None and attention_mask is None:
        assert positions.shape[-1] == queries
        assert (positions.diff(dim=-1) == 1).all(), "flash would read packed sequences"
    rows = torch.arange(keys - queries, keys)[:, None]
    columns = torch.arange(keys)[None]
    seen = columns <= rows
    if sliding_window is not None and keys > sliding_window:
        seen = seen & (columns > rows - sliding_window)
    visible = seen[None, None]
    if attention_mask is not None:
        assert attention_mask.shape == (query.shape[0], keys), "flash takes 2-D masks"
        visible = visible & (attention_mask[:, None, None, :] != 0)
    groups = query.shape[1] // key.shape[1]
    # A row that sees nothing gives zeros, as unpadding and padding again does.
    weights = query @ key.repeat_interleave(groups, dim=1).transpose(2, 3)
    weights = weights * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    weights = weights.masked_fill(~visible, float("-inf")).softmax(dim=-1).nan_to_num(0.0)
    output = weights @ value.repeat_interleave(groups, dim=1)
    return output.transpose(1, 2).contiguous(), None


@contextmanager
def flash_registered() -> Iterator[None]:
    """The stand-in under the stock name; gone afterwards."""
    ALL_ATTENTION_FUNCTIONS[FLASH] = flash_stand_in
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS.pop(FLASH)


def flash_model(name: str) -> Any:
    """A model whose decoder asks for flash attention; transformers would want it installed."""
    assert name in FAMILIES
    model = build(name)
    text = model.config.get_text_config(decoder=True)
    text._attn_implementation_internal = FLASH
    return model
