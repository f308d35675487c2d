"""Commands that take groups of options: dataclasses whose fields are options of typer."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from fastav_plugin.errors import ConfigError, did_you_mean


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let each parameter that is a dataclass stand for the options which are its fields, in order.

    A default of such a parameter gives the defaults of its options; without one they are those of
    the class.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = []
    for name, given in inspect.signature(command).parameters.items():
        options = [(name, hints[name], given.default)]
        if name in groups:
            types = get_type_hints(groups[name], include_extras=True)
            default = groups[name]() if given.default is given.empty else given.default
            options = [(f.name, types[f.name], getattr(default, f.name)) for f in fields(default)]
        parameters += [
            inspect.Parameter(name, given.KEYWORD_ONLY, annotation=kind, default=default)
            for name, kind, default in options
        ]

    @functools.wraps(command)
    def run(**options: Any) -> None:
        for name, kind in groups.items():
            options[name] = kind(**{field.name: options.pop(field.name) for field in fields(kind)})
        command(**options)

    # typer reads both.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise a ConfigError for a value of `--name` that is not allowed."""
    if value not in allowed:
        guess = did_you_mean(value, allowed)
        raise ConfigError(f"`--{name}` must be one of {', '.join(allowed)}, got {value!r}.{guess}")
