"""Flex attention without its compiler: torch's own reference of it, in milliseconds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

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
