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
#: Its coroutine that runs a generate() and returns text, prompt length and new tokens.
ANSWERER = "generate_non_streaming"
#: Method of the server's GenerationState that hands out GenerateManagers.
MANAGER = "get_manager"
_MANAGED = ["self", "model_id", "use_cb"]
#: Function of the server's module that makes its app.
BUILDER = "build_server"
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


def generation_state() -> Any:
    """The class whose method MANAGER is: (state, model id, use_cb) -> GenerateManager."""
    from transformers.cli.serving.utils import GenerationState

    return GenerationState


def managers(state: Any) -> dict[str, Any]:
    """The GenerateManagers that a GenerationState has handed out, by model id."""
    found: dict[str, Any] = state._generate_managers
    return found


def run_on(manager: Any, thread: Any) -> None:
    """Have a GenerateManager that was not initialised run its functions in a thread.

    Args:
        manager: the instance.
        thread: with `submit` and `async_submit` as the server's own InferenceThread.
    """
    manager._thread = thread


def text_streamer(processor: Any, loop: Any, queue: Any, response_parser: Any) -> Any:
    """What turns tokens into the text of a stream's queue; its `put` raises once cancelled."""
    return _streamer_class()(
        getattr(processor, "tokenizer", processor)._tokenizer,
        loop,
        queue,
        response_parser=response_parser,
    )


def is_cancelled(error: BaseException) -> bool:
    """Whether a streamer raised it because its client has gone."""
    from transformers.cli.serving.utils import _GenerationCancelled

    return isinstance(error, _GenerationCancelled)


def stream_error(text: str) -> Any:
    """The item that ends a stream's queue with an error."""
    from transformers.cli.serving.utils import _StreamError

    return _StreamError(text)


def is_stream_error(item: Any) -> bool:
    """Whether an item of a stream's queue ends it with an error."""
    return isinstance(item, type(stream_error("")))


def app_module() -> Any:
    """The module whose function BUILDER makes the server's app."""
    from transformers.cli.serving import server

    return server


def add_page(app: Any, path: str, page: Callable[[], tuple[bytes, str]]) -> None:
    """Answer GET requests of one path of an app that BUILDER made.

    Args:
        app: of FastAPI.
        path: "/metrics".
        page: makes the body and its content type, on the event loop.
    """
    from fastapi import Response

    async def answer() -> Any:
        body, kind = page()
        return Response(body, media_type=kind)

    app.add_api_route(path, answer, methods=["GET"], response_class=Response)


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


def _streamer_class() -> Any:
    from transformers.cli.serving.utils import DirectStreamer

    return DirectStreamer


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
    f"GenerateManager.{ANSWERER}() of its server": lambda: (
        inspect.iscoroutinefunction(getattr(generate_manager(), ANSWERER))
        and _begins(getattr(generate_manager(), ANSWERER), _STREAMED)
        and all(mentions(code_of(handler._non_streaming), ANSWERER) for handler in handlers())
    ),
    f"GenerationState.{MANAGER}({', '.join(_MANAGED[1:])}) of its server, and the managers and "
    "thread behind it": lambda: (
        _begins(getattr(generation_state(), MANAGER), _MANAGED)
        and mentions(code_of(getattr(generation_state(), MANAGER)), "_generate_managers")
        and mentions(code_of(generate_manager().__init__), "_thread")
        and all(
            mentions(code_of(getattr(generate_manager(), name)), "_thread")
            for name in ("submit", "async_submit")
        )
    ),
    "DirectStreamer, _GenerationCancelled and _StreamError of its server": lambda: (
        mentions(code_of(_streamer_class().put), "_GenerationCancelled")
        and mentions(code_of(getattr(generate_manager(), STREAMER)), "DirectStreamer")
        and stream_error("").msg == ""
    ),
    f"the function {BUILDER}() of its server, which makes a FastAPI app": lambda: (
        mentions(code_of(getattr(app_module(), BUILDER)), "FastAPI")
        and mentions(code_of(command().__init__), BUILDER)
    ),
    f"the call of {STREAMER}() in the server's handlers": lambda: all(
        mentions(code_of(handler._streaming), STREAMER) for handler in handlers()
    ),
}
