"""Servers started in other ways, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor

from fastav_plugin import FastAVCache, FastAVConfig, register_models
from fastav_plugin.config import CONFIG_NAME
from fastav_plugin.installation import install_hint
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.media.inputs import prepare_files
from fastav_plugin.serving.account import describe
from fastav_plugin.serving.openai_server import MISSING
from tests.model_overrides.test_qwen_omni import full_model
from tests.model_overrides.videollama2.checkpoint import write_official
from tests.serving.conftest import COMMAND, ROOT, Server
from tests.serving.messages import SETTINGS, Parts, ask, user
from tests.serving.test_server import COLOUR, SOUND, expect, generate, local
from tests.support.cache_names import passing
from tests.support.checkpoints import save_llava, save_t5
from tests.support.programs import with_checkout

pytestmark = pytest.mark.slow
Serve = Callable[..., Server]


def test_ctrl_c(serve: Serve) -> None:
    assert serve().wait().stop(signal.SIGINT) == 130


@pytest.mark.parametrize("method", ["fastav+divprune", "none"])
def test_its_start_as_json(tmp_path: Path, method: str) -> None:
    """One line on stdout once it answers, whatever is asked of it then."""
    command = [*COMMAND, str(MODEL_PATH), "--json", "--method", method, "--device", "cpu"]
    with subprocess.Popen(
        [*command, "--port", "0", "--host", "127.0.0.1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": with_checkout(), "HF_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        found = json.loads(process.stdout.readline())
        assert found["pid"] == process.pid
        assert (found["model"], found["method"]) == (str(MODEL_PATH), method)
        assert FastAVConfig.from_dict(found["settings"]).method == method
        assert httpx2.get(f"{found['address']}/health", timeout=60).status_code == 200
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest) == (130, "")
    assert errors.splitlines()[-1] == "Interrupted. The server has stopped."
    assert '"GET /health HTTP/1.1" 200' in errors


def test_the_method_that_cuts_nothing(serve: Serve, parts: Parts) -> None:
    server = serve(options=("--method", "none", "--device", "cpu", "--dtype", "float32")).wait()
    messages = [user(parts.picture, parts.sound, text=SOUND)]
    with server.client() as client:
        assert ask(client, server.model, messages) == generate(messages, parts.folder)
    assert server.lines(0, 1) == ["unpruned, because this method cuts nothing"]


def test_models_that_requests_name(serve: Serve, parts: Parts, tmp_path: Path) -> None:
    """Each is attached when it is loaded; one that cannot be is an answer with the reason."""
    llava, t5 = tmp_path / "llava", tmp_path / "t5"
    save_llava(llava)
    save_t5(t5)
    server = serve(None).wait()
    messages = [user(parts.picture, text=COLOUR)]
    url = f"{server.url}/v1/chat/completions"
    for _ in range(2):
        found = httpx2.post(url, json={"model": str(t5), "messages": messages}, timeout=60)
        assert found.status_code == 400
        assert "T5" in found.json()["detail"]
    with httpx2.stream(
        "POST", f"{server.url}/load_model", json={"model": str(llava)}, timeout=60
    ) as answer:
        steps = [json.loads(line[6:]) for line in answer.iter_lines() if line]
    assert steps[-1]["status"] == "ready"
    with server.client() as client:
        assert ask(client, str(MODEL_PATH), messages) == expect(messages, parts.folder)[0]
        ask(client, str(llava), messages)
    server.model = str(llava)
    assert server.lines(0, 1)[0].startswith("11 text, 144 image tokens; ")


def test_the_whole_omni(serve: Serve, parts: Parts, tmp_path: Path) -> None:
    """The class of the published checkpoints: the server calls it, its thinker is pruned."""
    model, processor = local()
    whole = full_model(model)
    whole.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    torch.save(whole.speaker_map, tmp_path / "spk_dict.pt")
    shutil.copy(MODEL_PATH / CONFIG_NAME, tmp_path)  # the thinker's own, as `expect` reads it
    server = serve(str(tmp_path)).wait()
    messages = [user(parts.picture, parts.sound, text=SOUND)]
    # Its generate() goes on to 1024 tokens whatever the request says, or to the end of the turn.
    ending = {"eos_token_id": model.config.eos_token_id}
    answer, line = expect(messages, parts.folder, **ending)
    with server.client() as client:
        for stream in (False, True):
            assert ask(client, server.model, messages, stream, **ending) == answer
    assert server.lines(0, 2) == [line, line]


def test_a_model_of_this_package(serve: Serve, parts: Parts, tmp_path: Path) -> None:
    """From the authors' folder; its processor samples the clip, sound included."""
    write_official(tmp_path)
    options = ("--set", "min_media_tokens=1", "--device", "cpu", "--dtype", "float32")
    server = serve(str(tmp_path), options).wait()
    register_models()
    models: Any = AutoModelForMultimodalLM
    processors: Any = AutoProcessor
    model = models.from_pretrained(tmp_path, dtype=torch.float32).eval()
    processor = processors.from_pretrained(tmp_path)
    files: dict[str, Any] = {"images": [], "video": parts.folder / "clip.mp4", "audio": None}
    inputs = prepare_files(processor, SOUND, **files)
    past = FastAVCache(FastAVConfig.for_model(model, "fastav", min_media_tokens=1))
    out = model.generate(**inputs, **passing(past), **SETTINGS)
    answer = processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    messages = [user(parts.video_from_file, text=SOUND)]
    with server.client() as client:
        for stream in (False, True):
            assert ask(client, server.model, messages, stream) == answer
    line = describe(past.report())
    assert " video, " in line and " audio tokens; " in line
    assert server.lines(0, 2) == [line, line]


def test_without_the_extra() -> None:
    """The command line as it is where fastapi is not installed."""
    start = "import sys; sys.modules['fastapi'] = None; from fastav_plugin.cli import main; main()"
    for arguments, status in (((str(MODEL_PATH),), 2), (("--help",), 0)):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", start, "serve", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": with_checkout()},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        if status:
            assert done.stderr.splitlines()[-1] == (
                f"fastav: error: {MISSING} {install_hint('serve')}"
            )
