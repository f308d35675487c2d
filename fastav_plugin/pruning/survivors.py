"""The rows of a prompt, or of a later turn, that are alive, from cut to cut."""

from __future__ import annotations

import torch
from torch import Tensor

from fastav_plugin.hooks.base import LayerView
from fastav_plugin.layers.kv_layer import FastAVLayer, Ticket
from fastav_plugin.pruning.rollout_view import Rollout
from fastav_plugin.tokens import TokenMap


class AliveRows:
    """Which prompt rows go through the layer at hand.

    Args:
        token_map: map of the rows brought, [B, T].
        past: rows brought before them.
        fingerprint: int64 [B], as in LayerView, or None.

    Attributes:
        rows: int64 [B, K], index of each row alive among those brought; None while nothing was
            cut. Padding points anywhere.
        valid: bool [B, K], False for padding; None when every row alive is real.
        positions: int64 [B, K], original position of each row alive, -1 for padding.
        start: int64 [B], index of each prompt's first real token among the rows brought.
    """

    def __init__(
        self, token_map: TokenMap, past: int = 0, fingerprint: Tensor | None = None
    ) -> None:
        real = token_map.valid
        self.past = past
        self._fingerprint = fingerprint
        self._tokens = token_map
        self.rows: Tensor | None = None
        self.valid: Tensor | None = real if bool((~real).any()) else None
        self.start = real.long().argmax(dim=1)
        self.positions = torch.arange(past, past + token_map.length, device=real.device).expand_as(
            real
        )
        if self.valid is not None:
            self.positions = self.positions.masked_fill(~real, -1)

    def index(self) -> Tensor:
        """int64 [B, T], index of each row brought, while nothing was cut."""
        places = torch.arange(self._tokens.length, device=self.positions.device)
        return places.expand_as(self.positions)

    def ticket(self, kv_layer: FastAVLayer) -> Ticket:
        """Leave for one layer to append the rows alive to those it holds."""
        width, logical, cut = self.positions.shape[1], self._tokens.length, self.rows is not None
        if self.past and not cut and self.valid is None:
            return Ticket(width, logical)
        positions, valid = self.positions, self.valid
        if self.past:
            positions, valid = join(
                (kv_layer.positions.to(positions.device), kv_layer.valid), (positions, valid)
            )
        return Ticket(width, logical, positions, valid, cut)

    def in_prompt(self) -> Tensor:
        """Bool [B, T], True where a row brought is alive."""
        # Padding writes a column of its own, which is then left out.
        columns = (self.positions - self.past + 1).clamp(min=0)
        wide = torch.nn.functional.pad(torch.zeros_like(self._tokens.valid), (1, 0))
        return wide.scatter(1, columns, True)[:, 1:]

    @property
    def brought(self) -> int:
        """Rows of the forward, alive or not."""
        return self._tokens.length

    def view(
        self,
        place: int,
        num_layers: int,
        hidden_states: Tensor,
        scores: Tensor | None,
        rollout: Rollout | None,
    ) -> LayerView:
        """What a hook sees at one place; tensors as in LayerView."""
        tokens, device = self._tokens, hidden_states.device
        columns = [tokens.modality, tokens.segment, tokens.frame]
        if self.rows is not None:
            columns = [column.gather(1, self.rows) for column in columns]
        columns = [column.to(device, copy=True) for column in (self.positions, *columns)]
        positions, modality, segment, frame = columns
        return LayerView(
            layer=place,
            num_layers=num_layers,
            # A choice has no gradient, and some of its operations refuse to record one.
            hidden_states=hidden_states.detach(),
            positions=positions,
            start=self.start.to(device) + self.past,
            modality=modality,
            segment=segment,
            frame=frame,
            alive=positions >= 0,
            scores=None if scores is None else scores.detach().to(device),
            rollout=rollout,
            fingerprint=None if self._fingerprint is None else self._fingerprint.to(device),
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


def join(
    held: tuple[Tensor, Tensor | None], more: tuple[Tensor, Tensor | None]
) -> tuple[Tensor, Tensor | None]:
    """Positions [B, n] and validity [B, n] (None: all real) of rows held and of more rows."""
    positions = torch.cat([held[0], more[0]], dim=1)
    if held[1] is None and more[1] is None:
        return positions, None
    return positions, positions >= 0
