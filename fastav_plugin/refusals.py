"""What is refused before any forward: compiled and parallel models, impossible settings."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.hooks.base import LayerHookList
from fastav_plugin.model_overrides.base import ModelOverride


def check_config(
    override: ModelOverride, model_config: Any, config: FastAVConfig, hooks: LayerHookList
) -> None:
    """Refuse what a model's configuration alone shows to be impossible.

    Raises:
        ConfigError, HookError: with the setting at fault.
    """
    text_config = override.text_config(model_config)
    places = hooks.places(text_config.num_hidden_layers)
    deepstack = override.deepstack_layers(model_config)
    early = sorted(place for place in places if 0 < place < deepstack)
    if early:
        raise ConfigError(
            f"This model adds visual features after each of its first {deepstack} layers, so a cut "
            f"on entering layer {early[0]} would misplace them. Cut at layer {deepstack} or later, "
            "or before layer 0."
        )
    if config.positions == "renumbered" and _has_mrope(text_config):
        raise ConfigError(
            "positions='renumbered' needs one-dimensional rotary positions; this model's are "
            "multi-dimensional. Use positions='original'."
        )


def _has_mrope(text_config: Any) -> bool:
    rope = getattr(text_config, "rope_parameters", None) or getattr(
        text_config, "rope_scaling", None
    )
    return isinstance(rope, dict) and "mrope_section" in rope


def refuse_call(head: nn.Module, named: dict[str, Any]) -> None:
    """Raise for a call of a model that a FastAVCache cannot serve.

    Args:
        head: the model.
        named: all arguments of its call by name.

    Raises:
        UnsupportedError: with the argument at fault.
    """
    if head.training:
        raise UnsupportedError("Pruning is for inference. Call model.eval() first.")
    if named.get("labels") is not None:
        raise UnsupportedError(
            "`labels` do not fit the surviving rows' logits. Compute losses without a FastAVCache."
        )
    if named.get("use_cache") is False:
        raise UnsupportedError(
            "use_cache=False contradicts a FastAVCache. Leave it out, or pass no cache."
        )
    if not isinstance(named.get("logits_to_keep", 0), int):
        raise UnsupportedError(
            "`logits_to_keep` must be an integer with a FastAVCache, got "
            f"{type(named['logits_to_keep']).__name__}."
        )


def refuse_compiled(head: nn.Module) -> None:
    """Raise if any part of the model was compiled: dynamo would skip hooks added now.

    Raises:
        UnsupportedError: "attach, then compile".
    """
    for module in head.modules():
        compiled = (
            getattr(module, "_compiled_call_impl", None) is not None
            or hasattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable")
            or hasattr(module, "_orig_mod")
        )
        if compiled:
            raise UnsupportedError(
                f"{type(module).__name__} was compiled before attach, so its hooks would be "
                "skipped. Attach, then compile: load the model anew, call "
                "fastav_plugin.attach(model, config), then torch.compile."
            )


#: Wrappers of torch that call the model inside them on slices of a batch, or on shards of it.
_PARALLEL = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"}


def is_parallel(module: Any) -> bool:
    """Whether a module is one of torch's data-parallel wrappers, or a replica one of them made."""
    return getattr(module, "_is_replica", False) or any(
        base.__name__ in _PARALLEL and base.__module__.startswith("torch.")
        for base in type(module).__mro__
    )


def refuse_parallel(module: Any) -> None:
    """Raise for a data-parallel wrapper or replica: one cache cannot follow several models.

    Raises:
        UnsupportedError: with the way to the model inside.
    """
    if is_parallel(module):
        raise UnsupportedError(
            f"{type(module).__name__} runs a model as data-parallel copies, which share no "
            "FastAVCache. Use the model inside it: attach(model.module, config) and "
            "model.module.generate(...), one process for each device."
        )
