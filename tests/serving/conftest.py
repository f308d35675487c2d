"""`fastav serve` in a process of its own, with the trained model of the testbed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from fastav_plugin.lab.testbed.model import MODEL_PATH
from tests.serving import ffmpeg
from tests.serving.messages import Parts
from tests.support.programs import with_checkout

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from fastav_plugin.cli import main; main()", "serve")
OPTIONS = (
    *("--method", "fastav+divprune", "--audio-keep-ratio", "0.5", "--set", "min_media_tokens=1"),
    *("--rule", "video=first 16 tokens, audio=first 10 tokens, image=first 4 tokens"),
    # Options of transformers serve.
    *("--device", "cpu", "--dtype", "float32"),
)


class Server:
    """A server's process.

    Attributes:
        url: where it listens.
        log: the file it writes to.
        model: the name it serves its model by.
    """

    def __init__(
        self,
        folder: Path,
        model: str | None,
        options: tuple[str, ...],
        environment: dict[str, str],
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.model = str(model)
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "server.log"
        (folder / "hub").mkdir()
        own = {"HF_HOME": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        listen = ("--host", "127.0.0.1", "--port", str(port))
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *([] if model is None else [model]), *options, *listen],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": with_checkout(), **own, **environment},
                stdout=log,
                stderr=log,
            )

    def wait(self, seconds: float = 120) -> Server:
        """Wait until it answers."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if "Application startup complete" in self.log.read_text():
                return self
            time.sleep(0.05)
        raise AssertionError(f"The server did not start:\n{self.log.read_text()}")

    def client(self) -> openai.OpenAI:
        """A client as users have it, without the patience."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def lines(self, after: int = 0, count: int = 0) -> list[str]:
        """What the plugin has logged so far, one line per request.

        Args:
            after: lines to leave out.
            count: lines to wait for; the last one of a stream follows the answer.
        """
        mark = f"fastav: {self.model}: "
        deadline = time.monotonic() + 60
        while True:
            # The last piece is empty, or a line that is being written.
            whole = self.log.read_text().split("\n")[:-1]
            found = [line.partition(mark)[2] for line in whole]
            found = [line for line in found if line and not line.startswith("attached")][after:]
            if len(found) >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@pytest.fixture(scope="session")
def video_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str] | None:
    return ffmpeg.environment(tmp_path_factory.mktemp("ffmpeg"))


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def serve(
    tmp_path_factory: pytest.TempPathFactory, parts: Parts
) -> Iterator[Callable[..., Server]]:
    """Start a server that may read the files of `parts`; gone at the end of the module."""
    started: list[Server] = []

    def start(
        model: str | None = str(MODEL_PATH),
        options: tuple[str, ...] = OPTIONS,
        environment: dict[str, str] | None = None,
    ) -> Server:
        folder = tmp_path_factory.mktemp("server")
        options = (*options, "--media-dir", str(parts.folder))
        started.append(Server(folder, model, options, environment or {}))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server]) -> Server:
    return serve().wait()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with server.client() as client:
        yield client
