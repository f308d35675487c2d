"""The command line of `fastav serve`: its options and its errors, up to the server's start."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.audio_utils
import transformers.cli.serve
import transformers.cli.serving.server
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.response import ResponseHandler
from transformers.cli.serving.utils import BaseHandler, GenerateManager
from typer.testing import Result

from fastav_plugin.cli import serve
from fastav_plugin.installation import install_hint
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.media.files import logger as media_logger
from fastav_plugin.upstream.releases import OLDEST
from fastav_plugin.upstream.server import HANDLER, LOADER, STREAMER
from tests.cli.conftest import fail, invoke
from tests.support.checkpoints import save_t5

__all__ = ["fail", "invoke"]

Fail = Callable[..., str]


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """The server sets the level of its own logs; the command leaves ours as they were."""
    server = logging.getLogger("transformers")
    level, before = server.level, _loggers()
    yield
    server.setLevel(level)
    assert _loggers() == before


def _loggers() -> list[tuple[int, list[logging.Handler]]]:
    """Level and handlers of the loggers that the command writes to stderr."""
    own = (serve.logger, media_logger)
    return [(logger.level, [*logger.handlers]) for logger in own]


def test_help_shows_both_kinds_of_options(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = invoke("serve", "--help").output
    assert "Example: fastav serve ./Qwen2.5-Omni-7B --method fastav+divprune --port 8000" in text
    own, _, server = text.partition("Options of transformers serve")
    own_options = ("--method", "--rule", "--keep-ratio", "--set", "--media-dir")
    assert all(option in own for option in own_options)
    assert "FASTAV_MEDIA_HOSTS" in own
    assert all(option in server for option in ("--port", "--host", "--dtype", "--enable-cors"))
    assert "--non-blocking" not in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--port", 1, "--method", "nope", MODEL_PATH), "Unknown method 'nope'"),
        ((MODEL_PATH, "--set", "visual_keep_ratio=2"), "`visual_keep_ratio` must lie in (0, 1]"),
        ((MODEL_PATH, "--frobnicate", 1), "No such option: --frobnicate"),
        ((MODEL_PATH, "--port", "http"), "Invalid value for '--port'"),
        (("/no/such/folder",), "There is no folder '/no/such/folder'"),
        ((MODEL_PATH.parent,), "holds no config.json"),
        ((MODEL_PATH, "--media-dir", "/no/such/folder"), "Invalid value for '--media-dir'"),
        ((MODEL_PATH, "--compile"), "`--compile` keeps the keys and values of each request"),
        ((MODEL_PATH, "--continuous-batching"), "in shared pages"),
        ((MODEL_PATH, "--request-settings", "methode"), "Did you mean 'method'?"),
        ((MODEL_PATH, "--request-settings", "hooks"), "No request may set `hooks`"),
        ((MODEL_PATH, "--log-level", "loud"), "'loud' is unknown"),
        ((MODEL_PATH, "--quantization", "2bit"), "Unsupported quantization method: '2bit'"),
    ],
)
def test_one_line_for_each_mistake(fail: Fail, arguments: tuple[Any, ...], message: str) -> None:
    assert message in fail("serve", *arguments)


def test_a_setting_that_does_not_fit_the_model(invoke: Callable[..., Result]) -> None:
    result = invoke("serve", MODEL_PATH, "--device", "cpu", "--set", "global_layer=99")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "fastav: error: `global_layer` must lie in [1, 7] for this model, got 99."
    )


def test_a_model_that_cannot_be_pruned(invoke: Callable[..., Result], tmp_path: Path) -> None:
    save_t5(tmp_path)
    result = invoke("serve", tmp_path, "--device", "cpu")
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert line.startswith("fastav: error: ")
    assert "T5" in line


def test_a_port_that_is_taken(invoke: Callable[..., Result]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = invoke(
            "serve", MODEL_PATH, "--device", "cpu", "--host", "127.0.0.1", "--port", port
        )
    assert result.exit_code not in (0, 2), "the status of uvicorn's own"
    assert "address already in use" in result.output


def test_the_extra_is_missing(fail: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastav_plugin.serving.openai_server.server.is_installed", lambda: False)
    assert fail("serve", MODEL_PATH).endswith(install_hint("serve"))


def test_the_library_of_the_metrics_is_missing(fail: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastav_plugin.serving.metrics.is_installed", lambda: False)
    message = fail("serve", MODEL_PATH)
    assert "prometheus_client" in message
    assert message.endswith(install_hint("serve"))


def _no_call(*args: Any, **kwargs: Any) -> None:
    raise AssertionError


async def _no_chat(self: Any, body: Any, request_id: Any) -> None:
    raise AssertionError


async def _own_frames(self: Any, body: Any, request_id: Any) -> Any:
    """As a handler whose videos have another number of frames."""
    return self.processor.apply_chat_template(
        body, tokenize=True, load_audio_from_video=True, **{"num_frames": 64}
    )


#: What a later release may change: a class, its attribute, and what takes its place.
CHANGES: dict[str, tuple[Any, str, Any]] = {
    "loader renamed": (ModelManager, LOADER, None),
    "loader of other parameters": (ModelManager, LOADER, _no_call),
    "models known by another table": (ModelManager, "get_model_modality", _no_call),
    "loader not called": (BaseHandler, "_resolve_model", _no_call),
    "handler renamed": (ResponseHandler, HANDLER, None),
    "handler that is no coroutine": (CompletionHandler, HANDLER, _no_call),
    "chat that is rendered elsewhere": (ChatCompletionHandler, HANDLER, _no_chat),
    "another number of frames": (ResponseHandler, HANDLER, _own_frames),
    "sounds by path alone": (transformers.audio_utils, "load_audio", lambda sound: str(sound)),
    "streams renamed": (GenerateManager, STREAMER, None),
    "streams of other parameters": (GenerateManager, STREAMER, _no_call),
    "streams that start elsewhere": (CompletionHandler, "_streaming", _no_call),
    "answers made elsewhere": (CompletionHandler, "_non_streaming", _no_call),
    "app renamed": (transformers.cli.serving.server, "build_server", None),
    "app of another kind": (transformers.cli.serving.server, "build_server", _no_call),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_server_that_has_changed(
    fail: Fail, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    holder, name, other = CHANGES[change]
    if other is None:
        monkeypatch.delattr(holder, name)
    else:
        monkeypatch.setattr(holder, name, other)
    line = fail("serve", MODEL_PATH)
    assert "lacks" in line
    assert "server" in line or "apply_chat_template" in line
    assert OLDEST in line


def test_the_servers_options_reach_it(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the command line with their values, the others with their defaults."""
    given: dict[str, Any] = {}
    command = serve._server()
    monkeypatch.setattr(command, "callback", lambda **options: given.update(options))
    threads = torch.get_num_threads()
    own = ("--threads", threads, "-m", "none")
    arguments = (*own, "--port", 8123, MODEL_PATH, "--reasoning", "off", "--enable-cors")
    assert invoke("serve", *arguments).exit_code == 0
    mode = transformers.cli.serve.ReasoningMode.OFF
    sent = {"force_model": str(MODEL_PATH), "port": 8123, "reasoning": mode, "enable_cors": True}
    assert {name: given[name] for name in sent} == sent
    assert set(given) == {param.name for param in command.params}  # and none of ours
