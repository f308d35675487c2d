"""The defaults of a model's family, for the fields of a config that leave them to it."""

from dataclasses import replace
from typing import Any

from fastav_plugin.config import FastAVConfig
from fastav_plugin.defaults import DEFAULTS
from fastav_plugin.hooks.fastav import FinePruning, GlobalPruning
from fastav_plugin.hooks.plannable import PlannableHook
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.model_overrides.base import ModelOverride


def with_defaults(config: FastAVConfig, override: ModelOverride, layers: int) -> FastAVConfig:
    """The config with the family's rule, drop ratio and layer where its own are None.

    The layer is left to the hooks where the family has the common one, and where the method's
    hooks would read it otherwise.

    Returns:
        The config itself where nothing is left to the family.
    """
    changes: dict[str, Any] = {}
    if config.global_rule is None:
        changes["global_rule"] = override.global_rule
    if config.fine_drop_ratio is None:
        changes["fine_drop_ratio"] = override.fine_drop_ratio
    other = override.global_depth != DEFAULTS.depth
    if other and config.global_layer is None and _cuts_as_fastav(config):
        changes["global_layer"] = replace(DEFAULTS, depth=override.global_depth).layer(layers)
    return config.replace(**changes) if changes else config


def _cuts_as_fastav(config: FastAVConfig) -> bool:
    """Whether `global_layer` is FastAV's layer for all hooks of the config that read it."""
    reading = [
        hook
        for hook in method_hooks(config)
        if isinstance(hook, PlannableHook) and "global_layer" in hook.config_fields.values()
    ]
    named = config.hooks is None and bool(reading)
    return named and all(isinstance(hook, (GlobalPruning, FinePruning)) for hook in reading)
