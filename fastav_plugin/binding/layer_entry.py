"""What happens on entering a decoder layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from fastav_plugin.pruning.prefill import Prefill
from fastav_plugin.pruning.request import state_of
from fastav_plugin.upstream.arguments import HIDDEN, cache_of
from fastav_plugin.upstream.compilation import inlined_only


class LayerEntry:
    """Forward pre-hook of one decoder layer.

    Args:
        binding: of the model; caches bound to another one pass by.
        index: of the layer.
        names: of the arguments of its forward, in order.
    """

    def __init__(self, binding: object, index: int, names: Sequence[str]) -> None:
        self.binding = binding
        self.index = index
        self._names = tuple(names)

    @inlined_only
    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Cut the rows, if any hook says so, and fit the layer's arguments to them."""
        if len(args) > 1:  # its loop names only some of what it passes
            kwargs = {**dict(zip(self._names[1:], args[1:], strict=False)), **kwargs}
            args = args[:1]
        state = state_of(cache_of(kwargs))
        if state is None or state.forward is None or state.binding is not self.binding:
            return None
        arguments = dict(kwargs)
        hidden_states = args[0] if args else arguments.pop(HIDDEN)
        state.entered = state.layers[self.index]
        hidden_states = state.forward.enter(self.index, hidden_states, arguments, state.entered)
        if self.index == 0 and isinstance(state.forward, Prefill):
            state.shift = state.forward.shift
        return (hidden_states,), arguments
