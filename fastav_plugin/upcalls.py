"""What lower rooms call in rooms above, which they must not import; the package provides it."""

from collections.abc import Callable
from typing import Any

_provided: dict[str, Callable[..., Any]] = {}


def provide(**functions: Callable[..., Any]) -> None:
    """Set the functions below."""
    _provided.update(functions)


def resolve_config(
    model: Any, config: Any, wanted: tuple[float, Any, frozenset[str]] | None
) -> Any:
    """Fill the defaults of one model into a FastAVConfig, and check its names.

    `wanted` is None or a FLOPs budget: target, prompt, fields given.
    """
    return _provided["resolve_config"](model, config, wanted)


def probe(model: Any) -> tuple[str | None, bool]:
    """Try a model without an override: why it cannot be pruned, or None; whether scores are read.

    It runs the whole engine on a tiny copy.
    """
    found: tuple[str | None, bool] = _provided["probe"](model)
    return found
