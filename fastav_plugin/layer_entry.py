"""What happens on entering a decoder layer."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastav_plugin.prefill import Prefill
from fastav_plugin.state import state_of
from fastav_plugin.upstream.arguments import HIDDEN, cache_of
from fastav_plugin.upstream.compilation import inlined_only


class LayerEntry:
    """Forward pre-hook of one decoder layer.

    Args:
        binding: of the model; caches bound to another one pass by.
        index: of the layer.
    """

    def __init__(self, binding: object, index: int) -> None:
        self.binding = binding
        self.index = index

    @inlined_only
    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Cut the rows, if any hook says so, and fit the layer's arguments to them."""
        state = state_of(cache_of(kwargs))
        if state is None or state.forward is None or state.binding is not self.binding:
            return None
        arguments = dict(kwargs)
        hidden_states = args[0] if args else arguments.pop(HIDDEN)
        state.entered = state.layers[self.index]
        hidden_states = state.forward.enter(self.index, hidden_states, arguments, state.entered)
        if self.index == 0 and isinstance(state.forward, Prefill):
            state.shift = state.forward.shift
        return (hidden_states, *args[1:]), arguments
