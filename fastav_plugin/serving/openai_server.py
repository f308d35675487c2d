"""Pruning in the models of transformers' own OpenAI-compatible server, which stays as it is.

The server's handlers get every model, and the processor of its prompts, from
`ModelManager.load_model_and_processor`. While `attaching` runs, the model is attached first, its
processor reads media with this package's reader, and what is refused is an answer with the reason.
"""

import functools
import importlib
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from fastav_plugin.attach import attach
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import FastAVError, UnsupportedError
from fastav_plugin.installation import install_hint
from fastav_plugin.model_overrides.own_models.registry import OWN_MODELS, register_models
from fastav_plugin.report import PruningReport
from fastav_plugin.serving import metrics
from fastav_plugin.serving.batching.loop import BatchLimits
from fastav_plugin.serving.batching.manager import manager_class
from fastav_plugin.serving.exchange import current_exchange
from fastav_plugin.serving.media.policy import MediaPolicy
from fastav_plugin.serving.messages import MessageMedia
from fastav_plugin.serving.refusals import refused, refusing
from fastav_plugin.serving.request_settings import DEFAULT_FIELDS, FIELD, Served
from fastav_plugin.serving.sequential import Sequential
from fastav_plugin.serving.server_policy import server_policy
from fastav_plugin.upstream import server

MISSING = "Serving needs fastapi, uvicorn, openai and prometheus_client."
#: Where Prometheus reads.
METRICS = "/metrics"


def check_server() -> None:
    """Raise UnsupportedError if an extra is missing, or the server loads its models another way."""
    if not (server.is_installed() and metrics.is_installed()):
        raise UnsupportedError(f"{MISSING} {install_hint('serve')}")
    server.check_server()


@contextmanager
def attaching(
    make_config: Callable[..., FastAVConfig],
    on_report: Callable[[str, PruningReport | None], None],
    policy: MediaPolicy | None = None,
    on_ready: Callable[[str], None] = lambda address: None,
    limits: BatchLimits | None = None,
    allowed: frozenset[str] = DEFAULT_FIELDS,
) -> Iterator[None]:
    """Attach every model that a server started in this block loads, and read its media.

    Args:
        make_config: the config for a model that was just loaded; and for one of its requests, with
            the fields that it sets by name.
        on_report: called after each generate() with the model's name and its report, as
            `attach` does.
        policy: what requests may name; None for `server_policy()`.
        on_ready: called with the server's address when it answers.
        limits: of requests that are decoded together; None answers one after the other.
        allowed: fields of FastAVConfig that a request may set for itself.

    Raises:
        UnsupportedError: as `check_server`.
    """
    check_server()
    media = MessageMedia(server_policy() if policy is None else policy)
    counted = metrics.ServerMetrics()
    attached: weakref.WeakKeyDictionary[Any, Served] = weakref.WeakKeyDictionary()
    lock = threading.Lock()

    def attaching_loader(stock: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stock)
        def load(self: Any, model_id_and_revision: str, *args: Any, **kwargs: Any) -> Any:
            model, processor = stock(self, model_id_and_revision, *args, **kwargs)
            name = current_exchange().model = model_id_and_revision.removesuffix("@main")
            with lock:
                if model not in attached:
                    report = functools.partial(on_report, name)
                    try:
                        config = make_config(model)
                        attach(model, config, on_report=report)
                    except FastAVError as error:
                        raise _for_client(self, error) from error
                    attached[model] = Served(config, report, make_config, counted.of(name))
                media.wrap(processor, model.config)
            return model, processor

        return load

    def batching(stock: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stock)
        def get_manager(self: Any, model_id: str, use_cb: bool = False) -> Any:
            known = server.managers(self)
            if use_cb and current_exchange().settings:
                raise UnsupportedError(
                    f"`{FIELD}` sets nothing of a request that --continuous-batching answers. "
                    "Leave the field out."
                )
            if limits is not None and not use_cb and model_id not in known:
                observer = counted.of(model_id.removesuffix("@main"))
                known[model_id] = manager_class()(limits, attached.get, observer)
            return stock(self, model_id, use_cb)

        return get_manager

    def announcing_start(stock: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stock)
        async def startup(self: Any, *args: Any, **kwargs: Any) -> None:
            await stock(self, *args, **kwargs)
            address = server.address(self)
            if address is not None:
                on_ready(address)

        return startup

    def counting(stock: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stock)
        def build(*args: Any, **kwargs: Any) -> Any:
            app = stock(*args, **kwargs)
            server.add_page(app, METRICS, counted.page)
            return app

        return build

    sequential = Sequential(attached.get)
    with ExitStack() as replaced:
        replaced.callback(media.close)
        register_models()
        replaced.enter_context(server.knowing(_own_models()))
        for make, holders, name in (
            (attaching_loader, (server.model_manager(),), server.LOADER),
            (media.aside, server.chat_handlers(), server.HANDLER),
            (
                functools.partial(refusing, allowed=allowed, counter=counted),
                server.handlers(),
                server.HANDLER,
            ),
            (sequential.streaming, (server.generate_manager(),), server.STREAMER),
            (sequential.answering, (server.generate_manager(),), server.ANSWERER),
            (batching, (server.generation_state(),), server.MANAGER),
            (counting, (server.app_module(),), server.BUILDER),
            (announcing_start, (server.web_server(),), server.STARTER),
        ):
            replaced.enter_context(server.replaced(make, holders, name))
        for handler_logger in server.handler_loggers():
            handler_logger.addFilter(media.log_once)
            replaced.callback(handler_logger.removeFilter, media.log_once)
        yield


def _for_client(manager: Any, error: FastAVError) -> Exception:
    """The error itself at start, where it ends the server; an answer to a later request."""
    return error if server.has_one_model(manager) else refused(error)


def _own_models() -> dict[str, str]:
    """Class names of the models of this package by their model type."""
    packages = [(own, importlib.import_module(own.package)) for own in OWN_MODELS]
    return {getattr(package, own.config).model_type: own.model for own, package in packages}
