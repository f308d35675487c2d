"""What one FastAVCache knows about its request, beside keys and values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import StateError
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.layers.held_tokens import HeldTokens
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.pruning.bound_model import BoundModel
from fastav_plugin.pruning.decode import Decode
from fastav_plugin.pruning.listener import PruningListener
from fastav_plugin.pruning.prefill import Prefill
from fastav_plugin.pruning.row_facts import RowFacts


@dataclass
class Request:
    """What one FastAVCache knows; copied with it.

    Attributes:
        config: the request's settings.
        hooks: its hooks.
        facts: what is known of each batch row.
        model: the model this cache is used with, from the first forward on.
        layers: one FastAVLayer per decoder layer.
        forward: the forward pass going on.
        call: keywords of the head's call going on, until its text model has read them.
        replaced_cache: the cache of generate()'s own whose place this one took.
        started_at: seen tokens when a forward was begun that has not ended.
        current_layer: of the decoder layer that runs.
        listener: told when the pruner works, or None.
    """

    config: FastAVConfig
    hooks: LayerHookList
    facts: RowFacts = field(default_factory=RowFacts)
    model: BoundModel | None = None
    layers: list[FastAVLayer] = field(default_factory=list)
    forward: Prefill | Decode | None = None
    call: dict[str, Any] | None = None
    replaced_cache: Any = None
    started_at: int | None = None
    current_layer: FastAVLayer | None = None
    listener: PruningListener | None = None

    @property
    def seen_tokens(self) -> int:
        """Tokens that the model was given so far, cut or not."""
        return self.layers[0].seen_tokens if self.layers else 0

    @property
    def prefilled(self) -> bool:
        """Whether a prompt went through, and no forward was broken off since."""
        return self.facts.token_map is not None and self.started_at is None

    def open(self, call: dict[str, Any]) -> None:
        """Begin a forward.

        Raises:
            StateError: the last one was interrupted after it had appended tokens.
        """
        if self.started_at is not None and self.seen_tokens != self.started_at:
            raise StateError(
                "The last forward pass with this FastAVCache was interrupted, so its layers "
                "disagree. Call cache.reset() or make a new one."
            )
        self.forward, self.call, self.started_at = None, call, self.seen_tokens

    def close(self) -> None:
        """End a forward that went through."""
        self.call = self.started_at = None

    def record_shift(self, shift: Tensor) -> None:
        """Note what renumbering takes off the positions of later tokens: int64 [B]."""
        self.facts = replace(self.facts, shift=shift)

    def hide(self, real: Tensor) -> None:
        """Take tokens of earlier turns for padding that are masked now: answers that ended early.

        Args:
            real: bool [B, seen tokens], False for padding.
        """
        hidden: dict[HeldTokens | None, HeldTokens] = {}
        for layer in self.layers:
            before = layer.prompt
            if before not in hidden:
                hidden[before] = layer.held.hidden(real)
            layer.set_held(hidden[before])
        if self.facts.token_map is not None:
            token_map = self.facts.extended(self.seen_tokens).padded(~real)
            self.facts = replace(self.facts, token_map=token_map)

    def map_rows(self, function: Callable[[Tensor], Tensor]) -> None:
        """Move all that is kept per batch row."""
        # What layers share, they share afterwards: masks are picked once for all of them.
        moved = functools.cache(lambda held: held.map_rows(function))
        for layer in self.layers:
            layer.map_rows(function, moved)
        self.facts = self.facts.map_rows(function)

    def clear(self) -> None:
        """Back to a cache that has seen no model."""
        self.facts = RowFacts(given_map=self.facts.given_map)
        self.model = self.forward = self.call = self.started_at = None
        self.replaced_cache = self.current_layer = None
        self.layers.clear()


def request_of(cache: Any) -> Request | None:
    """The request of a FastAVCache; None for anything else."""
    return getattr(cache, "fastav_request", None)
