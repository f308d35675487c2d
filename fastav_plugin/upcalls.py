"""What lower rooms call in rooms above, which they must not import; the package provides it."""

from collections.abc import Callable
from typing import Any

_provided: dict[str, Callable[..., Any]] = {}


def provide(**functions: Callable[..., Any]) -> None:
    """Set the functions below."""
    _provided.update(functions)


def resolve_config(model: Any, given: Any, **how: Any) -> Any:
    """The FastAVConfig of a model, as `settings.resolution.resolve_config` makes it."""
    return _provided["resolve_config"](model, given, **how)


def check_method(name: str) -> None:
    """Raise ConfigError for a method, or several joined by "+", that there is not."""
    _provided["check_method"](name)


def probe(model: Any) -> tuple[str | None, bool]:
    """Try a model without an override: why it cannot be pruned, or None; whether scores are read.

    It runs the whole engine on a tiny copy.
    """
    found: tuple[str | None, bool] = _provided["probe"](model)
    return found
