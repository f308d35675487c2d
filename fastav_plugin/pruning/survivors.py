"""The survivors of a prompt, or of a later turn, from cut to cut."""

import torch
from torch import Tensor

from fastav_plugin.hooks.base import LayerView
from fastav_plugin.layers.held_tokens import HeldTokens, Ticket
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.pruning.rollout_view import Rollout
from fastav_plugin.tokens import TokenMap


class Survivors:
    """Which tokens of a forward go through the next layer.

    Args:
        token_map: map of the forward's tokens, [B, T].
        past: seen tokens before them.
        fingerprint: int64 [B], as in LayerView, or None.

    Attributes:
        length: tokens of the forward, T.
        held: the survivors, [B, K]: original positions, and what is padding.
        index: int64 [B, K], index of each survivor among the forward's tokens; None while nothing
            was cut. Padding points anywhere.
        start: int64 [B], index of each prompt's first real token among the forward's tokens.
        counts: int64 [B], survivors without padding.
    """

    def __init__(
        self, token_map: TokenMap, past: int = 0, fingerprint: Tensor | None = None
    ) -> None:
        real = token_map.valid
        self.past = past
        self.length = token_map.length
        self._token_map = token_map
        self._fingerprint = fingerprint
        self.index: Tensor | None = None
        self.start = real.long().argmax(dim=1)
        self.counts = real.sum(dim=1)
        positions = torch.arange(past, past + self.length, device=real.device).expand_as(real)
        valid = real if bool((~real).any()) else None
        if valid is not None:
            positions = positions.masked_fill(~real, -1)
        self.held = HeldTokens(positions, valid)

    @property
    def count(self) -> int:
        """Survivors K, padding included."""
        return self.held.positions.shape[1]

    def full_index(self) -> Tensor:
        """`index`, also while nothing was cut."""
        if self.index is not None:
            return self.index
        positions = self.held.positions
        return torch.arange(self.length, device=positions.device).expand_as(positions)

    def ticket(self, kv_layer: FastAVLayer) -> Ticket:
        """For one layer to append the survivors to the tokens it holds."""
        cut = self.index is not None
        if not self.past:
            return Ticket(self.count, self.length, self.held, cut)
        if not cut and self.held.valid is None:
            return Ticket(self.count, self.length)
        held = kv_layer.held.followed_by(self.held)
        return Ticket(self.count, self.length, held, cut)

    def real_tokens(self, kv_layer: FastAVLayer) -> Tensor:
        """int64 [B], the survivors and what a layer holds of earlier turns, without padding."""
        past, valid = kv_layer.num_tokens, kv_layer.valid
        if not past:
            return self.counts
        before = past if valid is None else valid.sum(dim=1).to(self.counts.device)
        return self.counts + before

    def in_prompt(self) -> Tensor:
        """Bool [B, T], True where a token of the forward is a survivor."""
        # Padding writes a column of its own, which is then left out.
        columns = (self.held.positions - self.past + 1).clamp(min=0)
        wide = torch.nn.functional.pad(torch.zeros_like(self._token_map.valid), (1, 0))
        return wide.scatter(1, columns, True)[:, 1:]

    def view(
        self,
        place: int,
        num_layers: int,
        hidden_states: Tensor,
        scores: Tensor | None,
        rollout: Rollout | None,
    ) -> LayerView:
        """What a hook sees at one place; tensors as in LayerView."""
        tokens, device = self._token_map, hidden_states.device
        columns = [tokens.modality, tokens.segment, tokens.frame]
        if self.index is not None:
            columns = [column.gather(1, self.index) for column in columns]
        columns = [column.to(device, copy=True) for column in (self.held.positions, *columns)]
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

    def narrow(self, real: Tensor, kept: Tensor) -> Tensor | None:
        """Move on to the kept: right-aligned, padding on the left, prompt padding gone.

        Args:
            real: bool [B, K], the survivors without padding.
            kept: bool [B, K], those that go on.

        Returns:
            int64 [B, K'], index of those that go on; None if none is dropped.
        """
        counts = kept.sum(dim=1)
        lost = real.sum() - counts.sum()
        dropped, most, least = torch.stack([lost, counts.max(), counts.min()]).tolist()
        if dropped == 0:
            return None
        order = kept.long().argsort(dim=1, stable=True)[:, kept.shape[1] - most :]
        order = order.to(self.held.positions.device)
        self.counts = counts
        self.index = order if self.index is None else self.index.gather(1, order)
        positions, valid = self.held.positions.gather(1, order), None
        if least < most:
            columns = torch.arange(most, device=counts.device)
            valid = (columns >= (most - counts)[:, None]).to(order.device)
            positions = positions.masked_fill(~valid, -1)
        self.held = HeldTokens(positions, valid)
        return order
