"""What happens on entering a decoder layer."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from fastav_plugin.pruning.bound_model import BoundModel
from fastav_plugin.pruning.request import request_of
from fastav_plugin.upstream.arguments import HIDDEN, cache_of
from fastav_plugin.upstream.torch_internals import inlined_only


class LayerEntry:
    """Forward pre-hook of one decoder layer; `names` are of its arguments, in order."""

    def __init__(self, model: BoundModel, index: int, names: Sequence[str]) -> None:
        self.model = model
        self.index = index
        self._names = tuple(names)

    @inlined_only
    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Make the cut on entering the layer, if any, and fit its arguments."""
        if kwargs is None:
            return None  # see `Binding.remove`
        if len(args) > 1:  # its loop names only some of what it passes
            kwargs = {**dict(zip(self._names[1:], args[1:], strict=False)), **kwargs}
            args = args[:1]
        request = request_of(cache_of(kwargs))
        if request is None or request.forward is None or request.model is not self.model:
            return None
        arguments = dict(kwargs)
        hidden_states = args[0] if args else arguments.pop(HIDDEN)
        kv_layer = request.current_layer = request.layers[self.index]
        hidden_states = request.forward.enter(self.index, hidden_states, arguments, kv_layer)
        return (hidden_states,), arguments
