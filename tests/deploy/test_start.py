"""`fastav serve` with the arguments, the environment and the probes of its Deployment."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from fastav_plugin.lab.testbed.model import MODEL_PATH
from tests.deploy.manifests import SERVE, container, of_kind, written
from tests.support.programs import with_checkout

#: A stream that takes a while.
LONG = {"min_new_tokens": 400, "max_new_tokens": 400}
RUNNING = container(of_kind(written(SERVE / "kubernetes" / "server"), "Deployment"))


class Pod:
    """A process as the Deployment starts it: nothing is read from outside, one folder written.

    Attributes:
        url: where it listens.
        process: it.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        words = [str(MODEL_PATH) if word == "/model" else word for word in RUNNING["args"]]
        for option, value in (("--port", port), ("--host", "127.0.0.1")):
            words[words.index(option) + 1] = value
        image = re.findall(r"(HF_\w+)=(\S+)", (SERVE / "Dockerfile").read_text())
        kept = {"PATH", "LD_LIBRARY_PATH"} & set(os.environ)
        environment = {
            **{name: os.environ[name] for name in kept},
            **dict(image),
            **{variable["name"]: variable["value"] for variable in RUNNING["env"]},
            **{"HOME": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": with_checkout()},
        }
        code = "from fastav_plugin.cli import main; main()"
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, "serve", *words, "--device", "cpu"],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return answer.status, answer.read()


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    pod = Pod(tmp_path_factory.mktemp("pod"))
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and pod.process.poll() is None:
            try:
                pod.get(RUNNING["startupProbe"]["httpGet"]["path"])
                break
            except OSError:
                time.sleep(0.1)
        assert pod.process.poll() is None, pod.log.read_text()
        yield pod
    finally:
        pod.process.kill()
        pod.process.wait()


def test_metrics(pod: Pod) -> None:
    pytest.importorskip("fastav_plugin.serving.metrics")
    status, body = pod.get("/metrics")
    assert status == 200
    assert b"fastav_waiting_requests" in body


def test_a_pod(pod: Pod) -> None:
    """Probes, a host that is not allowed, and a stream that SIGTERM does not end; the last test."""
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        status, body = pod.get(RUNNING[name]["httpGet"]["path"])
        assert (status, json.loads(body)) == (200, {"status": "ok"})
    client = openai.OpenAI(base_url=f"{pod.url}/v1", api_key="none", max_retries=0, timeout=60)
    picture = {"type": "image_url", "image_url": {"url": "http://93.184.216.34/a.png"}}
    with pytest.raises(openai.BadRequestError, match="93.184.216.34"):
        client.chat.completions.create(
            model=str(MODEL_PATH),
            messages=[{"role": "user", "content": [picture]}],  # type: ignore[list-item,misc]
        )
    stream = client.chat.completions.create(
        model=str(MODEL_PATH),
        messages=[{"role": "user", "content": "Which colour?"}],
        stream=True,
        extra_body={"generation_config": json.dumps(LONG)},
    )
    parts = iter(stream)
    next(parts)
    pod.process.send_signal(signal.SIGTERM)
    rest = [("Waiting for connections to close" in pod.log.read_text(), part) for part in parts]
    assert any(ending for ending, _ in rest), "the answer ended before the server began to"
    last = rest[-1][1]
    assert last.choices[0].finish_reason == "length"
    assert last.usage is not None
    assert last.usage.completion_tokens == LONG["max_new_tokens"]
    assert pod.process.wait(timeout=60) in (0, -signal.SIGTERM)
    with pytest.raises(OSError):
        pod.get(RUNNING["readinessProbe"]["httpGet"]["path"])
