"""A batch of requests in the middle of their answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.serving.batching.decoding import Decoder
from fastav_plugin.serving.batching.request import Row


class Batch:
    """Requests of one model that are pruned by one config.

    Args:
        decoder: of the model.
        config: theirs.
    """

    def __init__(self, decoder: Decoder, config: FastAVConfig) -> None:
        self.config = config
        self.rows: list[Row] = []
        self._decoder = decoder
        self._cache: FastAVCache | None = None

    @property
    def kv_bytes(self) -> int:
        """Bytes of the keys and values that are held, padding of rows included."""
        held = [] if self._cache is None else self._cache.fastav_request.layers
        return sum(layer.nbytes for layer in held)

    def join(self, rows: Sequence[Row], caches: Sequence[FastAVCache]) -> None:
        """Take in requests that have their first token."""
        self.rows += rows
        held = [self._cache] if self._cache is not None else []
        every = [*held, *caches]
        self._cache = every[0] if len(every) == 1 else FastAVCache.stack(every)

    def step(self) -> Tensor:
        """Decode one token of each row: float [B, vocabulary], the logits of the next."""
        assert self._cache is not None
        device = self.rows[0].ids.device
        lengths = torch.tensor([row.ids.shape[1] for row in self.rows], device=device)
        width = self._cache.get_seq_length() + 1
        columns = torch.arange(width, device=device)
        mask = (columns[None] >= width - lengths[:, None]).long()
        ids = torch.cat([row.ids[:, -1:] for row in self.rows])
        return self._decoder.decode(ids, mask, (lengths - 1)[:, None], self._cache)[:, -1]

    def keep(self, staying: Sequence[int]) -> None:
        """Keep only these rows, by their places."""
        if len(staying) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in staying]
        if not staying:
            self._cache = None
        elif self._cache is not None:
            self._cache.keep_rows(torch.tensor(staying))
