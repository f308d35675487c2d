"""The FastAVConfig of one model: given fields over its base settings, checked against the model."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from fastav_plugin.binding.checks import check_config
from fastav_plugin.binding.family_settings import with_defaults
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, FastAVError, UnsupportedError
from fastav_plugin.hooks.plannable import cautions
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
    # A mistake in what was given, before anything is looked up.
    FastAVConfig.from_dict(given)
    family = _Family.of(model)
    base = _base_of(family, model, config, preset)
    try:
        made = _checked(base.laid_under(given), family)
    except FastAVError as error:
        if base.place is None or _suits(base, family):
            raise
        raise type(error)(f"{error} These settings come from {base.source}.") from error
    if budget is None:
        fitted = made
    else:
        fixed = frozenset(given) - {"method"}
        fitted = fit_budget(made, Budget(*budget, fixed), family.override, family.config)
    explanation = base.explanation
    if explanation:
        unlike = _differing(_checked(base.fields, family), made, given)
        chosen = _differing(made, fitted, vars(made))
        said = [f"{listed(unlike)} as given here"] if unlike else []
        said += [f"{listed(chosen)} as chosen for target_flops"] if chosen else []
        if said:
            explanation += f" It was not measured with {', nor with '.join(said)}."
    warned = " ".join(
        f"Caution: {caution}" for caution in cautions(method_hooks(fitted), family.num_layers)
    )
    names = [*given, *(["target_flops"] if budget is not None else [])]
    return fitted.sourced(_words(base.source, names), explanation, warned)


def base_settings(
    model: Any, config: str | os.PathLike[str] | None = None, preset: str | None = None
) -> BaseSettings:
    """What `resolve_config` lays given fields over; arguments as there."""
    family = None if preset is None else _Family.of(model)
    return _base_of(family, model, config, preset)


def _base_of(
    family: "_Family | None",
    model: Any,
    config: str | os.PathLike[str] | None,
    preset: str | None,
) -> BaseSettings:
    if preset is not None and config is not None:
        raise ConfigError("A preset and a file each name whole settings. Give one of them.")
    if preset is not None:
        assert family is not None
        return find_preset(preset).settings(family.override, family.config, family.head)
    return BaseSettings.of_model(model) if config is None else BaseSettings.of_file(config)


@dataclass(frozen=True)
class _Family:
    """What is known of a model's family; `head` is None where there is a configuration alone."""

    override: ModelOverride
    config: Any
    head: Any = None

    @classmethod
    def of(cls, model: Any) -> "_Family":
        if isinstance(model, (str, os.PathLike)):
            model = read_config(os.fspath(model))
        if isinstance(model, nn.Module):
            head: Any = unwrap(model)
            return cls(find_override(head), head.config, head)
        if not isinstance(model, PreTrainedConfig):
            raise UnsupportedError(
                "Expected a model, its configuration, its folder or its hub id, got "
                f"{type(model).__name__}."
            )
        override = override_for_config(model) or GENERIC
        reason = override.refusal(model)
        if reason is not None:
            raise UnsupportedError(f"{type(model).__name__} cannot be pruned: {reason}.")
        return cls(override, model)

    @property
    def num_layers(self) -> int:
        """Decoder layers L."""
        return int(self.override.text_config(self.config).num_hidden_layers)


def _checked(values: Mapping[str, Any], family: _Family) -> FastAVConfig:
    config = FastAVConfig.from_dict(values)
    config = with_defaults(config, family.override, family.num_layers)
    check_config(family.override, family.config, config, method_hooks(config))
    return config


def _suits(base: BaseSettings, family: _Family) -> bool:
    try:
        _checked(base.fields, family)
    except FastAVError:
        return False
    return True


def _differing(one: FastAVConfig, other: FastAVConfig, names: Iterable[str]) -> list[str]:
    known = [each.name for each in fields(one)]
    return [name for name in names if name in known and getattr(one, name) != getattr(other, name)]


def _words(source: str, given: Sequence[str]) -> str:
    return f"{source}, with {listed(given)} given" if given else source


def listed(names: Sequence[str]) -> str:
    """Names as a list in a sentence."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
