"""What is refused before any forward: compiled models, and settings a model cannot follow."""

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
