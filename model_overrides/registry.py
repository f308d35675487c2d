"""Which override serves which model."""

from typing import Any, TypeVar

from torch import nn

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.model_overrides.base import ModelOverride
from fastav_plugin.model_overrides.generic import GenericOverride

#: Registered overrides by `config.model_type`.
OVERRIDES: dict[str, ModelOverride] = {}

GENERIC = GenericOverride()

OverrideClass = TypeVar("OverrideClass", bound=type[ModelOverride])


def register_override(override_class: OverrideClass) -> OverrideClass:
    """Make a ModelOverride class known for its `model_types`; usable as a decorator.

    Raises:
        ConfigError: not a ModelOverride class, one without model types, or a model type that
            another class is registered for.
    """
    known = isinstance(override_class, type) and issubclass(override_class, ModelOverride)
    if not known or not override_class.model_types:
        raise ConfigError(
            "register_override() takes a ModelOverride class with `model_types`, "
            f"got {override_class!r}."
        )
    override = override_class()
    for model_type in override_class.model_types:
        taken = type(OVERRIDES.get(model_type, override))
        if taken is not override_class:
            raise ConfigError(
                f"The model type {model_type!r} has an override already: {taken.__name__}. "
                f"Leave it out of {override_class.__name__}.model_types."
            )
    for model_type in override_class.model_types:
        OVERRIDES[model_type] = override
    return override_class


def find_override(model: nn.Module) -> ModelOverride:
    """The override of a model: its family's, or the generic one if the model passes its probe.

    Raises:
        UnsupportedError: the model cannot be pruned; the message says why.
    """
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        raise UnsupportedError(
            f"{type(model).__name__} is not a transformers model: it has no configuration."
        )
    override = override_for_config(config) or GENERIC
    reason = override.refusal(config)
    if reason is not None:
        raise UnsupportedError(f"{type(model).__name__} cannot be pruned: {reason}.")
    override.admit(model)
    return override


def override_for_config(config: Any) -> ModelOverride | None:
    """The registered override of a configuration, or None."""
    return OVERRIDES.get(getattr(config, "model_type", ""))
