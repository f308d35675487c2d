"""attach, detach and pruned: prune every generate() of a model, or those in one block."""

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeVar

from torch import nn

from fastav_plugin.binding.attachment import Attachment, OnReport, RunningGenerate, running
from fastav_plugin.binding.binding import Binding
from fastav_plugin.binding.model_checks import (
    refuse_compiled,
    refuse_prompt_learning,
    refuse_settings,
    refuse_unseen,
)
from fastav_plugin.binding.reports import Reports
from fastav_plugin.binding.saving import leave_saving, watch_saving
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.pruning.prompt import Reason
from fastav_plugin.upstream.caches import is_plain, made_by_caller, offloads
from fastav_plugin.upstream.generation import inside_generate

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)


def attach(
    model: Model, config: FastAVConfig | None = None, *, on_report: OnReport | None = None
) -> Model:
    """Prune in every generate(), pipeline and server call of a model from now on.

    The empty DynamicCache that generate() makes is replaced by a FastAVCache. A cache the
    user passes, and direct calls of the model, stay as they are. Attaching again replaces the
    config. `save_pretrained` of an attached model writes the config beside the weights, where
    `FastAVConfig.for_model` finds it.

    The logger `fastav_plugin` has a line at INFO for each generate(): its report. What runs
    unpruned because of the caller (embeddings without a TokenMap, a cache or a loop of the
    caller's, a direct call) is a WARNING, once per attached model and cause, and then INFO;
    compiled calls say it when they are compiled.

        >>> config = FastAVConfig.for_model(model, "divprune", min_media_tokens=16)
        >>> model = attach(model, config, on_report=print)
        >>> answer = model.generate(**inputs, max_new_tokens=4)
        15 text, 32 image tokens; 47 -> 31 (entrance); FLOPs 61.9 % of dense; KV 39.2 of 57.6 kB
        >>> model = detach(model)

    A notebook prints what a cell ends with: assign the model that is returned, as here.

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
    config = _checked(model, config)
    binding = Binding.attach(head, _attachment(config, on_report), block=False)
    _watch_generate(binding, head)
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
        binding.detach()
    for module in (head, model):
        leave_saving(module)
    return model


@contextmanager
def pruned(model: nn.Module, config: FastAVConfig | None = None) -> Iterator[Reports]:
    """Prune in every generate() of a model within a block, in the thread that runs the block.

    Afterwards the model is as it was before: attached as then, or not at all. Meanwhile other
    threads' calls of it run as before the block; if that is unpruned, a warning says so once.
    Threads that the block starts, for a streamer, are others unless they run in its context:
    `Thread(target=contextvars.copy_context().run, args=(model.generate,), kwargs=...)`. asyncio's
    tasks and `asyncio.to_thread` do so. Blocks may be nested; the innermost holds. `detach` within
    a block undoes what holds outside.

        >>> with pruned(model, FastAVConfig(method="divprune", min_media_tokens=16)) as report:
        ...     answer = model.generate(**inputs, max_new_tokens=4)
        >>> report.tokens_per_layer
        [31, 31, 31, 31, 31, 31]

    Args:
        model: as of `attach`.
        config: as of `attach`.

    Yields:
        The reports of the generate() calls so far, which stands for the last of them.

    Raises:
        UnsupportedError, ConfigError: as `attach`. A model that was compiled after it was attached
            is allowed.
    """
    reports = Reports()
    block = _attachment(_checked(model, config), reports.add, whole_batch=True)
    with _block(model, block):
        yield reports


@contextmanager
def pruning(model: nn.Module, config: FastAVConfig, on_report: OnReport) -> Iterator[None]:
    """As `pruned`, with an `on_report` as that of `attach`: for servers.

    Args:
        model: as of `attach`.
        config: as of `attach`.
        on_report: called after each generate() in the block in place of the attached one.

    Raises:
        UnsupportedError, ConfigError: as `pruned`.
    """
    with _block(model, _attachment(_checked(model, config), on_report)):
        yield


@contextmanager
def _block(model: nn.Module, block: Attachment) -> Iterator[None]:
    """Have an attachment hold in this context while the block runs."""
    head = unwrap(model)
    if Binding.of(head) is None:
        refuse_compiled(model)
    refuse_prompt_learning(model)
    binding = Binding.attach(head, block, block=True)
    try:
        _watch_generate(binding, head)
        yield
    finally:
        binding.leave(block)


def _checked(model: nn.Module, config: FastAVConfig | None) -> FastAVConfig:
    config = FastAVConfig.for_model(model) if config is None else config
    if not isinstance(config, FastAVConfig):
        raise ConfigError(f"attach() takes a FastAVConfig, got {type(config).__name__}.")
    return config


def _attachment(
    config: FastAVConfig, on_report: OnReport | None, *, whole_batch: bool = False
) -> Attachment:
    replace = functools.partial(_replace, config) if method_hooks(config) else None
    return Attachment(config, replace, on_report, whole_batch)


def _watch_generate(binding: Binding, head: Any) -> None:
    """Let the head's generate refuse to run dense in silence, and hand on its report."""
    if "generate" not in binding.own_attributes and hasattr(head, "generate"):
        binding.own_attributes["generate"] = head.__dict__.get("generate")
        head.__dict__["generate"] = _watched(head)


def _watched(head: Any) -> MethodType:
    """The head's generate, as `_watch_generate` puts it on the head."""
    own = head.__dict__.get("generate")

    # Not bound before it is called: dynamo would look the method up on the model again.
    def stock(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if own is not None:
            return own(*args, **kwargs)
        return type(model).generate(model, *args, **kwargs)

    @functools.wraps(own or type(head).generate)
    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        binding = Binding.of(self)
        attachment = None if binding is None else binding.attachments.here
        if attachment is None:
            if binding is not None:
                binding.attachments.say_elsewhere()
            return stock(self, args, kwargs)
        if attachment.cache_for is not None:
            refuse_settings(self, args, kwargs)
        call = RunningGenerate()
        listening = running.set(call)
        ended = False
        try:
            output = stock(self, args, kwargs)
            ended = True
            if attachment.cache_for is not None:
                refuse_unseen(self, call.asked, args, kwargs)
            return output
        finally:
            running.reset(listening)
            _tell(attachment, call, ended)

    return MethodType(generate, head)


def _tell(attachment: Attachment, call: RunningGenerate, ended: bool) -> None:
    """Hand on the report of a generate() that ended, or was broken off between two forwards."""
    whole = [cache for cache in call.made if cache.fastav_request.prefilled]
    last: FastAVCache | None = whole[-1] if whole else None
    if attachment.cache_for is None and ended:
        reason = Reason.NO_HOOKS.sentence(attachment.config.min_media_tokens)
        logger.info("fastav: this generate() ran unpruned, because %s.", reason)
    if last is not None:
        if last.fastav_request.facts.reason_of(None) is Reason.EMBEDDINGS:
            attachment.say(
                "embeddings",
                "this generate() ran unpruned: %s.",
                Reason.EMBEDDINGS.sentence(attachment.config.min_media_tokens),
            )
        elif logger.isEnabledFor(logging.INFO):
            logger.info("fastav: %s", _account(last, whole_batch=True))
    if attachment.on_report is not None and (whole or ended):
        report = None if last is None else _account(last, whole_batch=attachment.whole_batch)
        attachment.on_report(report)


def _account(cache: FastAVCache, *, whole_batch: bool) -> Any:
    """The report of a cache: of its only batch row, of the first, or of all."""
    return cache.report(None) if whole_batch and cache.batch_size > 1 else cache.report()


def _replace(config: FastAVConfig, past: Any, found: bool) -> FastAVCache | None:
    """The cache to take the place of one that generate() made; None to leave it."""
    call = running.get()
    if not found:
        if call is not None and not inside_generate():
            raise UnsupportedError(
                "A compiled generate() cannot be distinguished from a direct call of the model, "
                "which stays dense. Compile the model (model.compile() or model.forward), not its "
                "generate, or pass a FastAVCache."
            )
        return None
    if call is not None:
        call.asked = True
    if made_by_caller(past):
        return None
    if not is_plain(past):
        raise UnsupportedError(
            f"generate() made a {type(past).__name__}"
            f"{' that offloads' if offloads(past) else ''}, which cannot hold layers of different "
            "lengths. Leave `cache_implementation` unset, or detach(model)."
        )
    cache = FastAVCache(config, _search=False)
    if call is not None:
        call.made.append(cache)
    return cache
