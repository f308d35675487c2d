"""The FastAVConfig of one model: given fields over its base settings, checked against the model."""

import os
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from fastav_plugin.binding.checks import check_config
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.own_models.configuration import read_config
from fastav_plugin.model_overrides.registry import GENERIC, find_override, override_for_config
from fastav_plugin.planning.budget import Budget, fit_budget
from fastav_plugin.settings.base import BaseSettings
from fastav_plugin.settings.presets import find_preset
from fastav_plugin.upstream import check


def resolve_config(
    model: Any,
    given: Mapping[str, Any],
    *,
    config: str | os.PathLike[str] | None = None,
    preset: str | None = None,
    budget: tuple[float, Any] | None = None,
) -> FastAVConfig:
    """Make the config that suits a model, for `FastAVConfig.for_model`.

    Args:
        model: a model, wrapped or not, its configuration, its folder or its hub id.
        given: fields that go before all others.
        config: a settings file, its folder or a hub id, instead of the file in the model's folder.
        preset: instead of any file.
        budget: a share of the dense FLOPs, and the prompt it is for; given fields stay.
    """
    check()
    if preset is not None and config is not None:
        raise ConfigError("`preset` and `config` each name whole settings. Give one of them.")
    # A mistake in what was given, before anything is looked up.
    wanted = FastAVConfig.from_dict(given)
    if preset is None or "method" in given:
        method_hooks(wanted)
    described = read_config(model) if isinstance(model, (str, os.PathLike)) else model
    override, model_config = _family(described)
    if preset is not None:
        base = find_preset(preset).settings(override, model_config)
    elif config is not None:
        base = BaseSettings.of_file_at(config)
    else:
        base = BaseSettings.of_model(model)
    try:
        made = _checked(base.laid_under(given), override, model_config)
    except ConfigError as error:
        if not base.of_file:
            raise
        raise type(error)(f"{error} Fields that were not given come from {base.source}.") from error
    if budget is not None:
        fixed = frozenset(given) - {"method"}
        made = fit_budget(made, Budget(*budget, fixed), override, model_config)
    return made.sourced(_words(base.source, given), base.explanation)


def _family(model: Any) -> tuple[ModelOverride, Any]:
    """The override and the configuration of a model, or of its configuration."""
    if isinstance(model, nn.Module):
        head: Any = unwrap(model)
        return find_override(head), head.config
    if not isinstance(model, PreTrainedConfig):
        raise UnsupportedError(
            "Expected a model, its configuration, its folder or its hub id, got "
            f"{type(model).__name__}."
        )
    override = override_for_config(model) or GENERIC
    reason = override.refusal(model)
    if reason is not None:
        raise UnsupportedError(f"{type(model).__name__} cannot be pruned: {reason}.")
    return override, model


def _checked(fields: Mapping[str, Any], override: ModelOverride, model_config: Any) -> FastAVConfig:
    config = FastAVConfig.from_dict(fields)
    check_config(override, model_config, config, method_hooks(config))
    if config.global_rule is None:
        config = config.replace(global_rule=override.global_rule)
    return config


def _words(source: str, given: Mapping[str, Any]) -> str:
    names = list(given)
    listed = " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    return f"{source}, with {listed} given" if names else source
