"""What one FastAVCache knows about its request, beside the KV rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import StateError
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.pruning.decode import Append
from fastav_plugin.pruning.prefill import Prefill
from fastav_plugin.tokens import TokenMap

if TYPE_CHECKING:
    from fastav_plugin.binding.binding import Binding


@dataclass(frozen=True)
class Joined:
    """What the requests of a joined batch keep apart, for their reports.

    Attributes:
        ends: int64 [B], length of each row's prompt, padding before it included.
        code: int64 [B], index into `reasons`.
        reasons: why a row was not cut, or None.
    """

    ends: Tensor
    code: Tensor
    reasons: tuple[str | None, ...]

    @classmethod
    def of(cls, state: State) -> Joined:
        """Of a request that stands alone."""
        assert state.token_map is not None
        like = state.token_map.segment[:, 0]
        ends = torch.full_like(like, state.token_map.length)
        return cls(ends, torch.zeros_like(like), (state.reason,))

    def map_rows(self, function: Callable[[Tensor], Tensor], padding: int = 0) -> Joined:
        """Move batch rows, after `padding` columns before them were left out."""
        return replace(self, ends=function(self.ends) - padding, code=function(self.code))

    def prompts(
        self, token_map: TokenMap, positions: list[Tensor]
    ) -> tuple[TokenMap, list[Tensor]]:
        """A map [B, T] and each layer's positions [B, n] with all but prompts as padding."""
        columns = torch.arange(token_map.length, device=self.ends.device)
        outside = columns >= self.ends[:, None]
        return token_map.padded(outside), [
            held.masked_fill(held >= self.ends[:, None].to(held.device), -1) for held in positions
        ]

    def reason(self, row: int | None) -> str | None:
        """Why a row, or the whole batch, was not cut; None if it was."""
        codes = self.code.tolist()
        found = [self.reasons[code] for code in (codes if row is None else [codes[row]])]
        return None if None in found else found[0]


@dataclass
class State:
    """What one FastAVCache knows; moved row by row with its layers, copied with it.

    Attributes:
        config: the request's settings.
        hooks: its hooks.
        given: the caller's TokenMap, of the first prompt or of the conversation so far.
        binding: the model this cache is used with, from the first forward on.
        layers: one FastAVLayer per decoder layer.
        token_map: map of the conversation up to the last prompt that hooks were asked about.
        reason: why nothing was cut.
        shift: int64 [B], what renumbering takes off later positions.
        rope_deltas: int64 [B, 1], what multi-dimensional rotary positions are ahead of counts.
        joined: what the rows of several requests keep apart; None for one request.
        forward: the forward pass going on.
        call: keywords of the head's call going on.
        replaces: the cache of generate's own whose place this one took.
        served: keywords of the call in which the search for the model did the hooks' work.
        opened_at: length at which a forward was begun that has not ended.
        entered: the layer whose forward goes on.
    """

    config: FastAVConfig
    hooks: LayerHookList
    given: TokenMap | None = None
    binding: Binding | None = None
    layers: list[FastAVLayer] = field(default_factory=list)
    token_map: TokenMap | None = None
    reason: str | None = None
    shift: Tensor | None = None
    rope_deltas: Tensor | None = None
    joined: Joined | None = None
    forward: Prefill | Append | None = None
    call: dict[str, Any] | None = None
    replaces: Any = None
    served: dict[str, Any] | None = None
    opened_at: int | None = None
    entered: FastAVLayer | None = None

    @property
    def length(self) -> int:
        """Rows the model has brought so far, cut or not."""
        return self.layers[0].logical_length if self.layers else 0

    @property
    def prefilled(self) -> bool:
        """Whether a prompt went through, and no forward was broken off since."""
        return self.token_map is not None and self.opened_at is None

    def open(self, call: dict[str, Any]) -> None:
        """Begin a forward.

        Raises:
            StateError: the last one was interrupted after it had appended rows.
        """
        if self.opened_at is not None and self.length != self.opened_at:
            raise StateError(
                "The last forward pass with this FastAVCache was interrupted, so its layers "
                "disagree. Call cache.reset() or make a new one."
            )
        self.forward, self.call, self.opened_at = None, call, self.length

    def close(self) -> None:
        """End a forward that went through."""
        self.call = self.served = self.opened_at = None

    def hide(self, real: Tensor) -> None:
        """Take rows of earlier turns that are masked now for padding: answers that ended early.

        Args:
            real: bool [B, length], False for padding.
        """
        done: dict[int, tuple[Tensor | None, FastAVLayer]] = {}
        for layer in self.layers:
            before = layer.head
            layer.hide(real, done[id(before)][1] if id(before) in done else None)
            done.setdefault(id(before), (before, layer))
        if self.token_map is not None:
            self.token_map = self.token_map.extend(self.length - self.token_map.length)
            self.token_map = self.token_map.padded(~real)

    def map_rows(self, function: Callable[[Tensor], Tensor]) -> None:
        """Move all that is kept per batch row: layers, TokenMap, shifts of positions."""
        # What layers share, they share afterwards: masks are picked once for all of them.
        moved: dict[int, tuple[Tensor, Tensor]] = {}

        def once(tensor: Tensor) -> Tensor:
            if id(tensor) not in moved:
                moved[id(tensor)] = (tensor, function(tensor))
            return moved[id(tensor)][1]

        for layer in self.layers:
            layer.map_rows(function, shared=once)
        if self.token_map is not None:
            self.token_map = self.token_map.map_rows(function)
        if self.shift is not None:
            self.shift = function(self.shift)
        if self.rope_deltas is not None:
            self.rope_deltas = function(self.rope_deltas)
        if self.joined is not None:
            self.joined = self.joined.map_rows(function)

    def clear(self) -> None:
        """Back to a cache that has seen no model."""
        self.binding = self.token_map = self.reason = self.shift = self.rope_deltas = None
        self.forward = self.call = self.served = self.opened_at = None
        self.replaces = self.entered = self.joined = None
        self.layers.clear()


def state_of(cache: Any) -> State | None:
    """The state of a FastAVCache; None for anything else."""
    return getattr(cache, "fastav_state", None)
