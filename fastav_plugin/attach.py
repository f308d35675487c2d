"""attach and detach: prune every generate() of a model from now on, and stop doing so."""

import functools
import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import nn

from fastav_plugin.binding.binding import Binding
from fastav_plugin.binding.model_checks import (
    refuse_compiled,
    refuse_prompt_learning,
    refuse_settings,
    refuse_unseen,
)
from fastav_plugin.binding.saving import leave_saving, watch_saving
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.report import PruningReport
from fastav_plugin.upstream.caches import is_plain, made_by_caller, offloads
from fastav_plugin.upstream.generation import inside_generate

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)


@dataclass
class _Replacements:
    """What happened to the caches of one generate() of an attached model.

    Attributes:
        made: the caches that took the place of its own, for its report.
        asked: whether any cache of its own was seen.
        said: whether the log says that it runs unpruned.
    """

    made: list[FastAVCache] = field(default_factory=list)
    asked: bool = False
    said: bool = False


#: Of the generate() that runs in this context.
_replacements: ContextVar[_Replacements | None] = ContextVar("fastav_replacements", default=None)

#: Called with the account of a generate(); None where nothing was replaced.
OnReport = Callable[[PruningReport | None], None]


def attach(
    model: Model, config: FastAVConfig | None = None, *, on_report: OnReport | None = None
) -> Model:
    """Prune in every generate(), pipeline and server call of a model from now on.

    The empty DynamicCache that generate() makes is replaced by a FastAVCache. A cache the
    user passes, and direct calls of the model, stay as they are. Each generate() and each direct
    call that runs unpruned says so once, at level INFO of the logger `fastav_plugin`; compiled
    calls say it when they are compiled. Attaching again replaces the config. `save_pretrained`
    of an attached model writes the config beside the weights, where `FastAVConfig.for_model`
    finds it.

    Args:
        model: a transformers model, or one wrapped by PEFT or dispatched by accelerate.
        config: what to prune; None for `FastAVConfig.for_model(model)`.
        on_report: called after each generate(), in its thread, with the report of the cache that
            was replaced; with None where there was none to replace (method "none", or a cache
            of the caller's).

    Returns:
        The same model.

    Raises:
        UnsupportedError: the model cannot be pruned, was compiled (attach, then compile), or is
            wrapped for data parallelism or prompt learning.
        ConfigError: the config does not suit the model.
    """
    head = unwrap(model)
    refuse_compiled(model)
    refuse_prompt_learning(model)
    config = FastAVConfig.for_model(model) if config is None else config
    if not isinstance(config, FastAVConfig):
        raise ConfigError(f"attach() takes a FastAVConfig, got {type(config).__name__}.")
    hooks = method_hooks(config)
    fresh = Binding.of(head) is None
    binding = Binding.make(head)
    try:
        binding.check(config, hooks)
    except Exception:
        if fresh:
            binding.remove()
        raise
    binding.cache_for = functools.partial(_replace, config) if hooks else None
    binding.on_report = on_report
    binding.on_unpruned = _say_unpruned if hooks else None
    if "generate" not in binding.own_attributes and hasattr(head, "generate"):
        binding.own_attributes["generate"] = head.__dict__.get("generate")
        head.__dict__["generate"] = _watched(head)
    binding.settings = config
    for module in (head, model):
        watch_saving(module)
    logger.info(
        "fastav: attached %s, method %s. Settings: %s",
        type(head).__name__,
        config.method if config.hooks is None else "hooks",
        config.source,
    )
    return model


def detach(model: Model) -> Model:
    """Undo `attach`, or the binding a FastAVCache made; safe to call twice.

    Returns:
        The same model, exactly as it was.
    """
    head = unwrap(model)
    binding = Binding.of(head)
    if binding is not None:
        binding.remove()
    for module in (head, model):
        leave_saving(module)
    return model


def _watched(head: Any) -> MethodType:
    """The head's generate, which refuses to run dense in silence and hands on its report."""
    own = head.__dict__.get("generate")

    @functools.wraps(own or type(head).generate)
    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        binding = Binding.of(self)
        if binding is not None and binding.cache_for is not None:
            refuse_settings(self, args, kwargs)
        replacements = _Replacements()
        listening = _replacements.set(replacements)
        ended = False
        try:
            if own is not None:
                output = own(*args, **kwargs)
            else:
                output = type(self).generate(self, *args, **kwargs)
            ended = True
            if binding is not None and binding.cache_for is not None:
                refuse_unseen(self, replacements.asked, args, kwargs)
            return output
        finally:
            _replacements.reset(listening)
            _tell(Binding.of(self), replacements, ended)

    return MethodType(generate, head)


def _tell(binding: Binding | None, replacements: _Replacements, ended: bool) -> None:
    """Hand on the report of a generate() that ended, or was broken off between two forwards."""
    whole = [cache for cache in replacements.made if cache.fastav_request.prefilled]
    last = whole[-1] if whole else None
    if last is not None and not replacements.said and logger.isEnabledFor(logging.INFO):
        reason = last.report(None).reason
        if reason is not None:
            logger.info("fastav: this generate() ran unpruned: %s.", reason)
    if binding is not None and binding.on_report is not None and (whole or ended):
        binding.on_report(None if last is None else last.report())


# Where dynamo compiles the call this runs when the graph is made, and does not break it.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _say_unpruned(model: str, cache: str | None) -> bool:
    """Say once that a generate(), or a direct call, runs dense; names of its model and cache."""
    replacements = _replacements.get()
    if replacements is None:
        logger.info(
            "fastav: this direct call of %s runs unpruned. Pass a FastAVCache to prune it.", model
        )
    elif not replacements.said:
        replacements.said = True
        if replacements.made:
            what = (
                "calls the model again, without the cache that is pruned, and runs unpruned there"
            )
        elif cache is None:
            what = "calls the model without a cache and runs unpruned"
        else:
            what = f"got a {cache} of the caller's and runs unpruned"
        logger.info("fastav: this generate() %s.", what)
    return True


def _replace(config: FastAVConfig, past: Any, found: bool) -> FastAVCache | None:
    """The cache to take the place of one that generate() made; None to leave it."""
    replacements = _replacements.get()
    if not found:
        if replacements is not None and not inside_generate():
            raise UnsupportedError(
                "A compiled generate() cannot be distinguished from a direct call of the model, "
                "which stays dense. Compile the model (model.compile() or model.forward), not its "
                "generate, or pass a FastAVCache."
            )
        return None
    if replacements is not None:
        replacements.asked = True
    if made_by_caller(past):
        return None
    if not is_plain(past):
        raise UnsupportedError(
            f"generate() made a {type(past).__name__}"
            f"{' that offloads' if offloads(past) else ''}, which cannot hold layers of different "
            "lengths. Leave `cache_implementation` unset, or detach(model)."
        )
    cache = FastAVCache(config, _search=False)
    if replacements is not None:
        replacements.made.append(cache)
    return cache
