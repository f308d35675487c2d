"""transformers' own OpenAI-compatible server, looked at when it is started."""

import dis
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import import_utils

from fastav_plugin.upstream.contract import Contracts, code_of, mentions, require
from fastav_plugin.upstream.releases import check_release, missing

#: Method of the server's ModelManager that hands out models, and its first parameters.
LOADER = "load_model_and_processor"
_PARAMETERS = ["self", "model_id_and_revision"]
#: Coroutine of each handler that answers a request with what its body says.
HANDLER = "handle_request"
#: Method of the server's GenerateManager that starts a generate() and returns its queue.
STREAMER = "generate_streaming"
_STREAMED = ["self", "model", "processor", "inputs"]
#: Coroutine of uvicorn's Server after which it answers.
STARTER = "startup"
#: The server's default for the frames of a video, passed where the request names none.
FRAMES = 32
#: What the server's chat handlers pass to the processor's `apply_chat_template`.
_TEMPLATE_ARGUMENTS = ("tokenize", "num_frames", "load_audio_from_video")


def is_installed() -> bool:
    """Whether the packages that the server needs are there."""
    return bool(import_utils.is_serve_available())


def check_server() -> None:
    """Make sure that the server hands out its models as it is known to: else nothing is pruned."""
    check_release()
    require(CONTRACTS)


@contextmanager
def replaced(
    make: Callable[[Callable[..., Any]], Callable[..., Any]], holders: tuple[Any, ...], name: str
) -> Iterator[None]:
    """Have the server call another function while the block runs.

    Args:
        make: the function that takes the place of the one it is given.
        holders: the classes whose method it is.
        name: of the method.
    """
    stock = [getattr(holder, name) for holder in holders]
    for holder, function in zip(holders, stock, strict=True):
        setattr(holder, name, make(function))
    try:
        yield
    finally:
        for holder, function in zip(holders, stock, strict=True):
            setattr(holder, name, function)


@contextmanager
def knowing(models: dict[str, str]) -> Iterator[None]:
    """Have the server load further models of text and other media while the block runs.

    Args:
        models: their classes' names by model type; the Auto classes must know them.
    """
    table = _model_names()
    new = {kind: name for kind, name in models.items() if kind not in table}
    table.update(new)
    try:
        yield
    finally:
        for kind in new:
            del table[kind]


def model_manager() -> Any:
    """The class whose method LOADER is: (manager, name, ...) -> (model, processor)."""
    from transformers.cli.serving.model_manager import ModelManager

    return ModelManager


def generate_manager() -> Any:
    """The class whose method STREAMER is: (manager, model, ...) -> (queue, streamer)."""
    from transformers.cli.serving.utils import GenerateManager

    return GenerateManager


def web_server() -> Any:
    """The class of uvicorn that runs the server; its coroutine STARTER ends when it answers."""
    from uvicorn import Server

    return Server


def address(running: Any) -> str | None:
    """Where a uvicorn Server answers, None if it could not start."""
    if not running.started:
        return None
    host, port, *_ = running.servers[0].sockets[0].getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def logging_requests_to_stderr() -> Iterator[None]:
    """Servers of uvicorn that are made in the block leave stdout alone."""
    from uvicorn.config import LOGGING_CONFIG

    handler = LOGGING_CONFIG["handlers"]["access"]
    before = handler["stream"]
    handler["stream"] = "ext://sys.stderr"
    try:
        yield
    finally:
        handler["stream"] = before


def handler_loggers() -> list[logging.Logger]:
    """What the chat handlers log to."""
    return [logging.getLogger(handler.__module__) for handler in chat_handlers()]


def chat_handlers() -> tuple[Any, ...]:
    """The classes that answer requests with messages; their method is HANDLER."""
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.response import ResponseHandler

    return ChatCompletionHandler, ResponseHandler


def handlers() -> tuple[Any, ...]:
    """The classes whose requests end in a generate() of a model; their method is HANDLER."""
    from transformers.cli.serving.completion import CompletionHandler

    return *chat_handlers(), CompletionHandler


def has_one_model(manager: Any) -> bool:
    """Whether a server was started for one model, which it loads at start."""
    return getattr(manager, "force_model", None) is not None


def command() -> Any:
    """The class behind `transformers serve`, whose __init__ takes its options and runs it."""
    check_release()  # of an old one not even the import may work
    try:
        from transformers.cli.serve import Serve
    except ImportError as error:
        raise missing(f"its server, transformers.cli.serve.Serve ({error})") from error
    return Serve


def _model_names() -> Any:
    """By which the server tells what a model takes, and which Auto class loads it."""
    from transformers.models.auto import modeling_auto

    return modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES


def _handler() -> Any:
    from transformers.cli.serving.utils import BaseHandler

    return BaseHandler


def _passes_sounds_on() -> bool:
    """Whether a sound that was decoded reaches the processor as it is."""
    import numpy as np
    from transformers.audio_utils import load_audio

    sound = np.zeros(1, np.float32)
    return load_audio(sound) is sound


def _begins(function: Any, names: list[str]) -> bool:
    return list(inspect.signature(function).parameters)[: len(names)] == names


def _loads(function: Any, number: int) -> bool:
    steps = dis.get_instructions(code_of(function))
    return any(step.argval == number for step in steps if step.opname.startswith("LOAD"))


CONTRACTS: Contracts = {
    f"the method ModelManager.{LOADER}({', '.join(_PARAMETERS[1:])}, ...) of its server": lambda: (
        _begins(getattr(model_manager(), LOADER), _PARAMETERS)
    ),
    f"the call of {LOADER}() in the server's BaseHandler._resolve_model": lambda: mentions(
        code_of(_handler()._resolve_model), LOADER
    ),
    "the attribute `force_model` of the server's ModelManager": lambda: mentions(
        code_of(model_manager().__init__), "force_model"
    ),
    "the table of multimodal models in its server": lambda: (
        isinstance(_model_names(), dict)
        and all(
            mentions(code_of(function), "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES")
            for function in (model_manager()._load_model, model_manager().get_model_modality)
        )
    ),
    "transformers.cli.serve.Serve": lambda: command() is not None,
    f"the coroutine {HANDLER} of the server's handlers": lambda: all(
        inspect.iscoroutinefunction(getattr(handler, HANDLER)) for handler in handlers()
    ),
    "the call of apply_chat_template(tokenize=, num_frames=, load_audio_from_video=) in the "
    "server's chat handlers": lambda: all(
        mentions(code_of(getattr(handler, HANDLER)), name)
        for handler in chat_handlers()
        for name in ("apply_chat_template", *_TEMPLATE_ARGUMENTS)
    ),
    f"the server's default of {FRAMES} frames": lambda: all(
        _loads(getattr(handler, HANDLER), FRAMES) for handler in chat_handlers()
    ),
    "a processor's apply_chat_template that takes sounds as arrays": _passes_sounds_on,
    f"GenerateManager.{STREAMER}({', '.join(_STREAMED[1:])}, ...) of its server": lambda: _begins(
        vars(generate_manager()).get(STREAMER, object), _STREAMED
    ),
    f"uvicorn's Server.{STARTER}(), started and servers": lambda: (
        inspect.iscoroutinefunction(getattr(web_server(), STARTER))
        and all(
            mentions(code_of(getattr(web_server(), STARTER)), name)
            for name in ("started", "servers")
        )
    ),
    f"the call of {STREAMER}() in the server's handlers": lambda: all(
        mentions(code_of(handler._streaming), STREAMER) for handler in handlers()
    ),
}
