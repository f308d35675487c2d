"""A shard with a model override: the import hook, and real processes from launcher to socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastav_plugin import UnsupportedError
from fastav_plugin.model_overrides.tgi import log as log_module
from fastav_plugin.model_overrides.tgi import startup
from fastav_plugin.model_overrides.tgi.startup import AfterImport, replace_get_model
from tests.model_overrides.tgi.small_server import write_server
from tests.support.programs import with_checkout

ROOT = Path(__file__).parents[3]


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module that can be imported and is not yet."""
    (tmp_path / "watched_package").mkdir()
    (tmp_path / "watched_package" / "__init__.py").touch()
    (tmp_path / "watched_package" / "inner.py").write_text("def get_model(): return 'stock'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "watched_package.inner"
    for name in ("watched_package", "watched_package.inner"):
        sys.modules.pop(name, None)


def test_the_hook_acts_once_and_is_gone(watched: str) -> None:
    seen: list[str] = []
    before = list(sys.meta_path)
    AfterImport(watched, lambda module: seen.append(module.get_model())).install()
    assert len(sys.meta_path) == len(before) + 1
    import json.tool  # noqa: F401  another module goes by

    assert not seen
    module = __import__(watched, fromlist=["get_model"])
    assert seen == ["stock"]
    assert sys.meta_path == before
    assert Path(str(module.__file__)).name == "inner.py"
    sys.modules.pop(watched)
    __import__(watched)
    assert seen == ["stock"]


def test_a_module_that_is_there_already(watched: str) -> None:
    __import__(watched)
    before, seen = list(sys.meta_path), []
    AfterImport(watched, lambda module: seen.append(module)).install()
    assert seen == [sys.modules[watched]]
    assert sys.meta_path == before


def test_a_module_that_does_not_exist() -> None:
    before = list(sys.meta_path)
    AfterImport("no_such_module_here", lambda module: None).install()
    with pytest.raises(ModuleNotFoundError):
        __import__("no_such_module_here")
    assert sys.meta_path == before


def test_an_unknown_get_model_is_refused() -> None:
    models = ModuleType("models")
    stock = lambda model_id, extra: None  # noqa: E731
    models.__dict__["get_model"] = stock
    with pytest.raises(UnsupportedError, match="arguments model_id, extra; known are model_id, lo"):
        replace_get_model(models)
    assert models.__dict__["get_model"] is stock


def test_a_shard_under_another_tgi_ends(capsys: pytest.CaptureFixture[str]) -> None:
    from loguru import logger

    models = ModuleType("models")
    models.__dict__["get_model"] = lambda model_id: None
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level}|{message}", filter="text_generation_server")
    try:
        with pytest.raises(SystemExit) as exit:
            startup._replace_or_exit(models)
    finally:
        logger.remove(sink)
    assert exit.value.code == 2
    assert lines[0].startswith("ERROR|fastav: This version of TGI loads models with the arguments")
    assert "Use TGI 3.3.7, or start without" in capsys.readouterr().err


def test_lines_pass_the_filter_of_tgis_log() -> None:
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lines.append, format="{level}|{message}", filter="text_generation_server")
    try:
        logger.info("of a module of ours, dropped by TGI's filter")
        log_module.log("warning", "kept {9 of 10}")
    finally:
        logger.remove(sink)
    assert lines == ["WARNING|fastav: kept {9 of 10}\n"]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"FASTAV_MODEL_OVERRIDE": "fastva"}, "'fastva'. Did you mean 'fastav'? Known: fastav, d"),
        ({"FASTAV_MODEL_OVERRIDE": "fastav", "FASTAV_CONFIG": "/none"}, "Cannot read the config"),
        ({"FASTAV_MODEL_OVERRIDE": "fastav", "FASTAV_MEDIA_MAX_BYTES": "1k"}, "must be a number"),
    ],
)
def test_a_shard_that_cannot_start(
    variables: dict[str, str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = list(sys.meta_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as exit:
        startup.main(["/nowhere/text-generation-server", "serve"])
    assert exit.value.code == 2
    assert sentence in capsys.readouterr().err
    assert sys.meta_path == before


@pytest.fixture
def no_server() -> Iterator[None]:
    """Whatever else was imported as TGI, or in place of what loads models, is put aside."""

    def ours() -> dict[str, ModuleType]:
        names = ("text_generation_server", "fastav_plugin.model_overrides.tgi.models")
        return {name: module for name, module in sys.modules.items() if name.startswith(names)}

    before = ours()
    for name in before:
        del sys.modules[name]
    yield
    for name in ours():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.double
@pytest.mark.usefixtures("no_server")
def test_a_shard_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TGI's order of imports, its log and its way to the model, up to the socket."""
    commands = write_server(tmp_path)
    variables = {"FASTAV_MODEL_OVERRIDE": "divprune", "SMALL_ENGINE": "1", "RANK": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    handler = signal.getsignal(signal.SIGTERM)

    def stop_when_ready() -> None:
        while not Path(f"{tmp_path}/socket-0").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_ready, daemon=True).start()
    options = ["--uds-path", f"{tmp_path}/socket", "--json-output"]
    try:
        with pytest.raises(SystemExit) as exit:
            startup.main([f"{commands}/text-generation-server", "serve", "m", *options])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert exit.value.code == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["text"].rstrip() for record in records] == [
        "fastav: model override 'divprune': its model class takes the place of TGI's own",
        "loaded pruned m",
        "Server started",
    ]
    assert records[0]["record"]["level"]["name"] == "INFO"
    assert records[0]["record"]["name"] == "text_generation_server.fastav"


class Launch:
    """A launch in a process of its own."""

    def __init__(self, folder: Path, options: list[str], **variables: str) -> None:
        commands = write_server(folder)
        self.socket = folder / "socket"
        self.download = folder / "download.json"
        environment = {
            "PATH": f"{ROOT}/deploy/tgi/shims:{commands}:/usr/bin:/bin",
            "PYTHONPATH": with_checkout(),
            "OMP_NUM_THREADS": "1",
            "DOWNLOAD_LOG": str(self.download),
            "LOG_LEVEL": "info",
            **variables,
        }
        command = ["text-generation-launcher", "--model-id", "m", *options]
        self.process = subprocess.Popen(
            [*command, "--shard-uds-path", str(self.socket)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self, ready: int = 0) -> None:
        """Until the sockets of so many shards are there."""
        end = time.monotonic() + 120
        while not all(Path(f"{self.socket}-{rank}").exists() for rank in range(ready)):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)

    def lines(self) -> list[dict[str, Any]]:
        out, self.errors = self.process.communicate(timeout=120)
        return [json.loads(line) for line in out.splitlines()]


@pytest.mark.double
@pytest.mark.slow
def test_from_the_command_line_to_the_model(tmp_path: Path) -> None:
    """`text-generation-launcher --model-id m --model-override fastav` and a TGI option."""
    options = ["--model-override", "fastav", "--dtype", "float16"]
    launch = Launch(tmp_path, options, SMALL_ENGINE="1")
    launch.wait(ready=1)
    launch.process.send_signal(signal.SIGTERM)  # the id that was started is the real launcher's
    messages = [line["message"] for line in launch.lines()]
    replaced = "fastav: model override 'fastav': its model class takes the place of TGI's own"
    assert messages[:3] == [replaced, "loaded pruned m", "Server started"]
    assert messages[-1] == "Shutting down shards"
    assert launch.process.returncode == 0
    assert json.loads(launch.download.read_text()) == {"override": False}


@pytest.mark.double
@pytest.mark.slow
def test_the_variable_alone_and_two_shards(tmp_path: Path) -> None:
    launch = Launch(tmp_path, ["--num-shard", "2"], SMALL_ENGINE="1", FASTAV_MODEL_OVERRIDE="none")
    launch.wait(ready=2)
    launch.process.send_signal(signal.SIGINT)
    messages = [line["message"] for line in launch.lines()]
    assert messages.count("loaded pruned m") == 2
    assert launch.process.returncode == 0


@pytest.mark.double
@pytest.mark.slow
def test_without_an_override_it_is_tgi_alone(tmp_path: Path) -> None:
    launch = Launch(tmp_path, [])
    launch.wait(ready=1)
    launch.process.terminate()
    assert [line["message"] for line in launch.lines()][0] == "loaded stock m"
    assert launch.process.returncode == 0


@pytest.mark.double
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model-override", "fastva"], "Unknown model override 'fastva'"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_exit_codes_pass_through(options: list[str], message: str, tmp_path: Path) -> None:
    launch = Launch(tmp_path, options, FASTAV_MODEL_OVERRIDE="fastav")
    assert launch.lines() == []
    assert launch.process.returncode == 2
    assert message in launch.errors


@pytest.mark.double
@pytest.mark.slow
def test_a_shard_that_fails_ends_the_launch(tmp_path: Path) -> None:
    """The small server has no classes that the engine could build on."""
    launch = Launch(tmp_path, ["--model-override", "fastav"])
    messages = [line["message"] for line in launch.lines()]
    assert "Error when initializing model" in messages[1]
    assert "ModuleNotFoundError" in messages[2]
    assert launch.process.returncode == 1
    assert not os.path.exists(f"{launch.socket}-0")
