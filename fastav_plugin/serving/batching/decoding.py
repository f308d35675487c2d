"""One token more for each request of a batch, whose layers hold different tokens of each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.cache import FastAVCache
from fastav_plugin.errors import StateError
from fastav_plugin.model_overrides import find_override
from fastav_plugin.pruning.rope_deltas import rotary_positions
from fastav_plugin.upstream.arguments import cache_argument


class Decoder:
    """Decodes batches of one model, bound by `attach`.

    Args:
        head: the module that generate() calls.
    """

    def __init__(self, head: nn.Module) -> None:
        self.head = head
        self._first = find_override(head).first_position

    def decode(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: FastAVCache) -> Tensor:
        """Decode one token of each request.

        Args:
            ids: int64 [B, 1].
            mask: int64 [B, T], 1 for every token seen of a request, cut or not, this one included.
            positions: int64 [B, 1], seen tokens of each before this one.
            cache: of the batch.

        Returns:
            float [B, 1, vocabulary].

        Raises:
            StateError: the batch and its cache count their tokens differently.
        """
        length = cache.get_seq_length() + 1
        if tuple(mask.shape) != (cache.batch_size, length):
            raise StateError(
                f"The batch counts {mask.shape[0]} requests of up to {mask.shape[1]} tokens, their "
                f"cache {cache.batch_size} of up to {length}. This is a bug of the plugin."
            )
        with torch.no_grad():
            output: Any = self.head(
                input_ids=ids,
                attention_mask=mask,
                position_ids=rotary_positions(cache.fastav_request, positions + self._first),
                **cache_argument(cache),
                use_cache=True,
            )
        return output.logits[:, -1:]  # type: ignore[no-any-return]
