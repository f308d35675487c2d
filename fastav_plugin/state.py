"""What one FastAVCache knows about its request, beside the KV rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fastav_plugin.append import Append
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import StateError
from fastav_plugin.hooks.base import LayerHookList
from fastav_plugin.kv_layer import FastAVLayer
from fastav_plugin.prefill import Prefill
from fastav_plugin.tokens import TokenMap

if TYPE_CHECKING:
    from fastav_plugin.binding import Binding


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
        forward: the forward pass going on.
        call: keywords of the head's call going on.
        replaces: the cache of generate's own whose place this one took.
        served: keywords of the call in which the search for the model did the hooks' work.
        opened_at: length at which a forward was begun that has not ended.
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
    forward: Prefill | Append | None = None
    call: dict[str, Any] | None = None
    replaces: Any = None
    served: dict[str, Any] | None = None
    opened_at: int | None = None

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

    def clear(self) -> None:
        """Back to a cache that has seen no model."""
        self.binding = self.token_map = self.reason = self.shift = self.rope_deltas = None
        self.forward = self.call = self.served = self.opened_at = self.replaces = None
        self.layers.clear()


def state_of(cache: Any) -> State | None:
    """The state of a FastAVCache; None for anything else."""
    return getattr(cache, "fastav_state", None)
