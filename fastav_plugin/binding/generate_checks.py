"""What is refused of a generate() of an attached model: to run unpruned."""

from typing import Any

from torch import nn
from transformers.cache_utils import Cache

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.upstream.releases import installed, tested


def refuse_settings(head: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise for settings of generate() that leave an attached model nothing to prune.

    Args:
        head: the model.
        args: positional arguments of generate: inputs, generation_config, ...
        kwargs: its keywords.

    Raises:
        UnsupportedError: with the setting at fault.
    """
    given = kwargs.get("generation_config", args[1] if len(args) > 1 else None)
    configs = [given, getattr(head, "generation_config", None)]
    known = (config.use_cache for config in configs if config is not None)
    # A None among the keywords is taken at its word, not for "the default".
    use_cache = kwargs.get("use_cache", next((value for value in known if value is not None), True))
    if not use_cache:
        raise UnsupportedError(
            f"use_cache={use_cache} leaves an attached model nothing to prune. Leave it out, or "
            "detach(model)."
        )
    if kwargs.get("cache_implementation") == "paged":
        raise UnsupportedError(
            "cache_implementation='paged' is continuous batching, whose cache is shared by all "
            "requests and cannot be pruned. Leave `cache_implementation` unset, or detach(model)."
        )


def refuse_unseen(
    head: nn.Module, seen: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raise if an attached model's generate() ended without showing a cache to exchange.

    Args:
        head: the model.
        seen: whether it showed one.
        args: positional arguments of generate.
        kwargs: its keywords; with a cache or a loop of the caller's there is none to show.

    Raises:
        UnsupportedError: it ran unpruned.
    """
    own = any(isinstance(value, Cache) for value in (*args, *kwargs.values()))
    if seen or own or kwargs.get("custom_generate") is not None:
        return
    raise UnsupportedError(
        f"The generate() of {type(head).__name__} ended without a cache that could be exchanged, "
        f"so nothing was pruned. transformers {installed()} is installed, tested are {tested()}. "
        "Pass a FastAVCache, or detach(model)."
    )
