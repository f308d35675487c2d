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
from fastav_plugin.serving.media.policy import MediaPolicy
from fastav_plugin.serving.messages import MessageMedia
from fastav_plugin.serving.refusals import refused, refusing, waiting
from fastav_plugin.serving.server_policy import server_policy
from fastav_plugin.upstream import server

MISSING = "Serving needs fastapi, uvicorn and openai."


def check_server() -> None:
    """Raise UnsupportedError if an extra is missing, or the server loads its models another way."""
    if not server.is_installed():
        raise UnsupportedError(f"{MISSING} {install_hint('serve')}")
    server.check_server()


@contextmanager
def attaching(
    make_config: Callable[[Any], FastAVConfig],
    on_report: Callable[[str, PruningReport | None], None],
    policy: MediaPolicy | None = None,
    on_ready: Callable[[str], None] = lambda address: None,
) -> Iterator[None]:
    """Attach every model that a server started in this block loads, and read its media.

    Args:
        make_config: the config for a model that was just loaded.
        on_report: called after each generate() with the model's name and its report, as
            `attach` does.
        policy: what requests may name; None for `server_policy()`.
        on_ready: called with the server's address when it answers.

    Raises:
        UnsupportedError: as `check_server`.
    """
    check_server()
    media = MessageMedia(server_policy() if policy is None else policy)
    attached: weakref.WeakSet[Any] = weakref.WeakSet()
    lock = threading.Lock()

    def attaching_loader(stock: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stock)
        def load(self: Any, model_id_and_revision: str, *args: Any, **kwargs: Any) -> Any:
            model, processor = stock(self, model_id_and_revision, *args, **kwargs)
            with lock:
                if model not in attached:
                    name = model_id_and_revision.removesuffix("@main")
                    report = functools.partial(on_report, name)
                    try:
                        attach(model, make_config(model), on_report=report)
                    except FastAVError as error:
                        raise _for_client(self, error) from error
                    attached.add(model)
                media.wrap(processor, model.config)
            return model, processor

        return load

    def announcing_start(stock: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stock)
        async def startup(self: Any, *args: Any, **kwargs: Any) -> None:
            await stock(self, *args, **kwargs)
            address = server.address(self)
            if address is not None:
                on_ready(address)

        return startup

    with ExitStack() as replaced:
        replaced.callback(media.close)
        register_models()
        replaced.enter_context(server.knowing(_own_models()))
        for make, holders, name in (
            (attaching_loader, (server.model_manager(),), server.LOADER),
            (media.aside, server.chat_handlers(), server.HANDLER),
            (refusing, server.handlers(), server.HANDLER),
            (waiting, (server.generate_manager(),), server.STREAMER),
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
