"""Flash and flex attention on a CPU: a stand-in for the one, torch's own reference of the other."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.support.families import FAMILIES, build

FLASH = "flash_attention_2"
FLEX = "flex_attention"

#: Families whose classes in transformers take flex attention.
FLEXIBLE = (
    "llava",
    "llava_next",
    "llava_onevision",
    "llava_next_video",
    "gemma3",
    "qwen2_text",
    "llama_text",
)


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
    """Flash attention by its contract: causal from the bottom right, over what a 2-D mask leaves.

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
    # A query that sees nothing gives zeros, as unpadding and padding again does.
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


@contextmanager
def uncompiled_flex() -> Iterator[None]:
    """While inside, flex attention evaluates every mask rule as written.

    Compiling it takes half a minute for each model on a CPU. The rules and the BlockMasks are
    the same.
    """
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        # Torch says that this is slow; transformers' way of compiling masks is deprecated.
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        warnings.filterwarnings("ignore", message="_compile flag on create_block_mask")
        yield
