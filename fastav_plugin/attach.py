"""attach and detach: prune every generate() of a model from now on, and stop doing so."""

import functools
import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from fastav_plugin.binding.binding import Binding
from fastav_plugin.binding.checks import check_config
from fastav_plugin.binding.model_checks import (
    refuse_compiled,
    refuse_parallel,
    refuse_prompt_learning,
    refuse_settings,
    refuse_unseen,
)
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.model_overrides.registry import GENERIC, find_override, override_for_config
from fastav_plugin.planning.budget import Budget, fit_budget
from fastav_plugin.report import PruningReport
from fastav_plugin.upstream import check
from fastav_plugin.upstream.caches import is_plain, made_by_caller, offloads
from fastav_plugin.upstream.generation import inside_generate
from fastav_plugin.upstream.torch_internals import without_compilation

logger = logging.getLogger(__name__)


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
    model: nn.Module, config: FastAVConfig | None = None, *, on_report: OnReport | None = None
) -> nn.Module:
    """Prune in every generate(), pipeline and server call of a model from now on.

    The empty DynamicCache that generate() makes is replaced by a FastAVCache. A cache the
    user passes, and direct calls of the model, stay as they are. Each generate() and each direct
    call that runs unpruned says so once, at level INFO of the logger `fastav_plugin`; compiled
    calls say it when they are compiled. Attaching again replaces the config.

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
    config = FastAVConfig.for_model(head) if config is None else config
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
    return model


def detach(model: nn.Module) -> nn.Module:
    """Undo `attach`, or the binding a FastAVCache made; safe to call twice.

    Returns:
        The same model, exactly as it was.
    """
    head = unwrap(model)
    binding = Binding.of(head)
    if binding is not None:
        binding.remove()
    return model


def unwrap(model: Any) -> nn.Module:
    """The transformers model whose generate() makes text, out of its wrappers.

    Raises:
        UnsupportedError: not a module, or one that runs data-parallel copies of a model.
    """
    while True:
        refuse_parallel(model)
        inner = without_compilation(model)
        if inner is not model:
            model = inner
        elif hasattr(model, "get_base_model"):
            model = model.get_base_model()
        else:
            break
    if not isinstance(model, nn.Module):
        raise UnsupportedError(f"Expected a model, got {type(model).__name__}.")
    override = override_for_config(getattr(model, "config", None))
    return model if override is None else override.resolve(model)


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


def resolve_config(
    model: Any, config: FastAVConfig, wanted: tuple[float, Any, frozenset[str]] | None
) -> FastAVConfig:
    """Fill in a model family's defaults and check names, for `FastAVConfig.for_model`."""
    check()
    hooks = method_hooks(config)
    if isinstance(model, nn.Module):
        head: Any = unwrap(model)
        override, model_config = find_override(head), head.config
    elif isinstance(model, PreTrainedConfig):
        override, model_config = override_for_config(model) or GENERIC, model
        reason = override.refusal(model)
        if reason is not None:
            raise UnsupportedError(f"{type(model).__name__} cannot be pruned: {reason}.")
    else:
        raise UnsupportedError(
            f"Expected a model or its configuration, got {type(model).__name__}."
        )
    check_config(override, model_config, config, hooks)
    if config.global_rule is None:
        config = config.replace(global_rule=override.global_rule)
    return config if wanted is None else fit_budget(config, Budget(*wanted), override, model_config)
