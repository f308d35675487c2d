"""The rows of a prompt that are alive, from cut to cut."""

from __future__ import annotations

import torch
from torch import Tensor

from fastav_plugin.hooks.base import LayerView
from fastav_plugin.kv_layer import Ticket
from fastav_plugin.tokens import TokenMap


class AliveRows:
    """Which prompt rows go through the layer at hand.

    Args:
        token_map: map of the prompt, [B, T].

    Attributes:
        rows: int64 [B, K], prompt index of each row alive; None while nothing was cut. Padding
            points anywhere.
        valid: bool [B, K], False for padding; None when every row alive is real.
        positions: int64 [B, K], original position of each row alive, -1 for padding.
        start: int64 [B], index of each prompt's first real token.
    """

    def __init__(self, token_map: TokenMap) -> None:
        real = token_map.valid
        self._tokens = token_map
        self.rows: Tensor | None = None
        self.valid: Tensor | None = real if bool((~real).any()) else None
        self.start = real.long().argmax(dim=1)
        self.positions = torch.arange(token_map.length, device=real.device).expand_as(real)
        if self.valid is not None:
            self.positions = self.positions.masked_fill(~real, -1)

    def ticket(self) -> Ticket:
        """Leave for one layer to append the rows alive."""
        width, cut = self.positions.shape[1], self.rows is not None
        return Ticket(width, self._tokens.length, self.positions, self.valid, cut)

    def in_prompt(self) -> Tensor:
        """Bool [B, T], True where a prompt row is alive."""
        # Padding is at -1: it writes a column of its own, which is then left out.
        wide = torch.nn.functional.pad(torch.zeros_like(self._tokens.valid), (1, 0))
        return wide.scatter(1, self.positions + 1, True)[:, 1:]

    def view(
        self, place: int, num_layers: int, hidden_states: Tensor, scores: Tensor | None
    ) -> LayerView:
        """What a hook sees at one place; tensors as in LayerView."""
        tokens, device = self._tokens, hidden_states.device
        columns = [tokens.modality, tokens.segment, tokens.frame]
        if self.rows is not None:
            columns = [column.gather(1, self.rows) for column in columns]
        # Copies, so that a hook that writes into its view harms nobody.
        columns = [column.to(device, copy=True) for column in (self.positions, *columns)]
        positions, modality, segment, frame = columns
        return LayerView(
            layer=place,
            num_layers=num_layers,
            hidden_states=hidden_states,
            positions=positions,
            start=self.start.to(device),
            modality=modality,
            segment=segment,
            frame=frame,
            alive=positions >= 0,
            scores=None if scores is None else scores.to(device),
        )

    def narrow(self, alive: Tensor, kept: Tensor) -> Tensor | None:
        """Move to the rows kept: right-aligned, padding on the left, prompt padding gone.

        Args:
            alive: bool [B, K], the rows alive that are real.
            kept: bool [B, K], those that go on.

        Returns:
            int64 [B, K'], index of the rows that go on; None if none is lost.
        """
        counts = kept.sum(dim=1)
        lost = alive.sum() - counts.sum()
        dropped, most, least = torch.stack([lost, counts.max(), counts.min()]).tolist()
        if dropped == 0:
            return None
        order = kept.long().argsort(dim=1, stable=True)[:, kept.shape[1] - most :]
        order = order.to(self.positions.device)
        self.rows = order if self.rows is None else self.rows.gather(1, order)
        self.valid = None
        if least < most:
            places = torch.arange(most, device=counts.device)
            self.valid = (places >= (most - counts)[:, None]).to(order.device)
        self.positions = self.positions.gather(1, order)
        if self.valid is not None:
            self.positions = self.positions.masked_fill(~self.valid, -1)
        return order
