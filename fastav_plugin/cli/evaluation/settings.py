"""The settings that one evaluation compares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastav_plugin.analysis.measured_run import DENSE
from fastav_plugin.cli.options.pruning import DEFAULT_METHODS, laid_over
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError


def make_settings(
    model: Any,
    methods: Sequence[str] | None = None,
    named: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, FastAVConfig]:
    """The settings to compare, by name; without any, the three methods.

    Args:
        model: the model or its configuration.
        methods: methods under the common overrides, named after themselves.
        named: NAME=JSON, or NAME=FILE with JSON.
        overrides: fields of FastAVConfig for all of them.

    Raises:
        ConfigError: a name twice, or "dense", or no JSON object.
    """
    wanted: list[tuple[str, dict[str, Any]]] = []
    for method in methods or (() if named else DEFAULT_METHODS):
        if method != DENSE:
            wanted.append((method, {"method": method}))
    for text in named or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"`--config` takes NAME=JSON, got {text!r}.")
        wanted.append((name.strip(), _fields(value.strip())))
    names = [name for name, _ in wanted]
    for name in names:
        if name == DENSE or names.count(name) > 1:
            raise ConfigError(
                f"Two settings are named {name!r}. Give every `--config` a name of its own."
            )
    return {
        name: FastAVConfig.for_model(model, **laid_over(overrides or {}, fields))
        for name, fields in wanted
    }


def _fields(text: str) -> dict[str, Any]:
    if not text.startswith("{"):
        return FastAVConfig.from_pretrained(text).to_dict()
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"`--config` holds no JSON object: {error}. Got {text!r}.") from error
    return dict(found)
