"""What choosing tokens costs in one prefill, beside the decoder layers: the overhead of pruning."""

import torch
from torch import Tensor

from fastav_plugin.flops import LayerCost
from fastav_plugin.functional.rollout import weights_made


class Account:
    """Multiply-accumulates that hooks cost each batch row: scores, rollout and selection.

    What is noted are tensors of counts, so nothing waits for the device; `settle` adds them up.
    Every batch row is counted by its own real tokens, as if it were alone.

    Args:
        cost: sizes of a decoder layer; None where nothing is to be counted.
        batch: batch rows B.
        device: of `macs`.

    Attributes:
        macs: int64 [B], complete once the prefill has entered its last layer.
    """

    def __init__(
        self, cost: LayerCost | None, batch: int, device: torch.device | None = None
    ) -> None:
        self._cost = cost
        self.macs = torch.zeros(batch, dtype=torch.int64, device=device)
        self._scored: list[Tensor] = []
        self._rolled: list[tuple[Tensor, int]] = []
        self._chosen: list[Tensor] = []

    @property
    def width(self) -> int | None:
        """Hidden size of the text model; None where nothing is counted."""
        return None if self._cost is None else self._cost.hidden_size

    def score(self, tokens: Tensor) -> None:
        """The last query's logits for so many tokens (int64 [B]) of one layer."""
        if self._cost is not None:
            self._scored.append(tokens)

    def roll(self, tokens: Tensor, vectors: int) -> None:
        """One layer's rollout matrix over so many tokens (int64 [B]), times so many vectors."""
        if self._cost is not None:
            self._rolled.append((tokens, vectors))

    def choose(self, macs: Tensor | None) -> None:
        """A hook's own multiply-accumulates, int64 [B]."""
        if self._cost is not None and macs is not None:
            self._chosen.append(macs)

    def settle(self, rows: Tensor) -> None:
        """Add all that was noted to `macs`, for the batch rows of bool [B] alone."""
        if self._cost is None or not (self._scored or self._rolled or self._chosen):
            return
        device, cost = self.macs.device, self._cost
        total = torch.zeros_like(self.macs)
        if self._scored:
            scored = torch.stack([tokens.to(device) for tokens in self._scored])
            total += scored.sum(dim=0) * cost.query_size
        for tokens, vectors in self._rolled:
            each = cost.query_size + vectors * cost.query_heads
            total += weights_made(tokens.to(device)) * each
        for macs in self._chosen:
            total += macs.to(device)
        self.macs += total * rows.to(device)
        self._scored, self._rolled, self._chosen = [], [], []
