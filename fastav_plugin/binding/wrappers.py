"""The model inside its wrappers."""

from typing import Any

from torch import nn

from fastav_plugin.binding.model_checks import refuse_parallel
from fastav_plugin.errors import UnsupportedError
from fastav_plugin.model_overrides.registry import override_for_config
from fastav_plugin.upstream.torch_internals import without_compilation


def unwrap(model: Any) -> nn.Module:
    """The transformers model whose generate() makes text, out of its wrappers.

    Raises:
        UnsupportedError: not a module, or one that runs data-parallel copies of a model.
    """
    while True:
        refuse_parallel(model)
        inner = without_compilation(model)
        if inner is not model:
            model = inner
        elif hasattr(model, "get_base_model"):
            model = model.get_base_model()
        else:
            break
    if not isinstance(model, nn.Module):
        inner = ", which has one: give its `model`" if hasattr(model, "model") else ""
        raise UnsupportedError(f"Expected a model, got {type(model).__name__}{inner}.")
    override = override_for_config(getattr(model, "config", None))
    return model if override is None else override.resolve(model)
