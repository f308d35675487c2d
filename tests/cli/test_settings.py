"""Where a command's settings come from, and models by their hub id: one rule in every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from fastav_plugin import FastAVConfig
from fastav_plugin.config import CONFIG_NAME
from fastav_plugin.lab.testbed.model import build_model, build_processor
from tests.cli.conftest import Invoke
from tests.support.hub import NOWHERE, cached
from tests.support.programs import with_checkout

NAME = "org/tiny-omni"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with settings."""
    folder = tmp_path_factory.mktemp("saved")
    build_model().save_pretrained(folder)
    build_processor().save_pretrained(folder)
    FastAVConfig(method="seats", visual_keep_ratio=0.25).save_pretrained(folder)
    return folder


@pytest.fixture
def cache(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local cache with that checkpoint, and no hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    cached(tmp_path / "cache", NAME, {path.name: path for path in saved.iterdir()})
    return tmp_path / "cache"


def said(stderr: str) -> str:
    """What the one line about settings says."""
    (line,) = [line for line in stderr.splitlines() if "Settings: " in line]
    return line.partition("Settings: ")[2]


@pytest.mark.parametrize(
    ("options", "words", "methods"),
    [
        ((), "{file}", ["seats", "fastav", "divprune", "fastav+divprune"]),
        (("-m", "fastv"), "{file}, with --method given", ["fastv"]),
        (
            ("--keep-ratio", 0.3, "--set", "global_layer=5"),
            "{file}, with --keep-ratio and --set global_layer given",
            ["seats", "fastav", "divprune", "fastav+divprune"],
        ),
        (("--config", "{other}"), "{other}/fastav_config.json", ["divprune"]),
        (("--config", "{other}/fastav_config.json"), "{other}/fastav_config.json", ["divprune"]),
        (
            ("--preset", "fast"),
            "the preset 'fast' for audio-visual models",
            ["fastav+divprune+late_removal"],
        ),
    ],
)
def test_the_order(
    invoke: Invoke,
    saved: Path,
    tmp_path: Path,
    options: tuple[Any, ...],
    words: str,
    methods: list[str],
) -> None:
    FastAVConfig(method="divprune", visual_keep_ratio=0.75).save_pretrained(tmp_path)
    places = {"file": saved / CONFIG_NAME, "other": tmp_path}
    asked = [str(option).format(**places) for option in options]
    result = invoke("inspect", saved, *asked, "--json")
    assert result.exit_code == 0, result.output
    assert said(result.stderr) == words.format(**places)
    plans = json.loads(result.stdout)["plans"]
    assert [plan["method"] for plan in plans] == ["dense", *methods]


def test_without_a_file(invoke: Invoke, checkpoint: Path) -> None:
    result = invoke("inspect", checkpoint)
    assert said(result.stderr) == "the family's defaults"


def test_generate_takes_the_method_of_the_file(
    invoke: Invoke, saved: Path, clip: Path, tmp_path: Path
) -> None:
    command = ("generate", "--model", saved, "--video", clip, "--question", "Who?", "--json")
    own = invoke(*command)
    assert own.exit_code == 0, own.output
    assert said(own.stderr) == str(saved / CONFIG_NAME)
    assert [each["method"] for each in json.loads(own.stdout)["outcomes"]] == ["dense", "seats"]
    FastAVConfig(method="divprune").save_pretrained(tmp_path)
    other = invoke(*command, "--config", tmp_path)
    methods = [each["method"] for each in json.loads(other.stdout)["outcomes"]]
    assert methods == ["dense", "divprune"]


def test_mistakes(fail: Callable[..., str], saved: Path, tmp_path: Path) -> None:
    command = ("inspect", saved)
    assert "Unknown preset 'fats'. Did you mean 'fast'" in fail(*command, "--preset", "fats")
    assert "Give one of them" in fail(*command, "--preset", "fast", "--config", saved)
    assert "Cannot read the config file" in fail(*command, "--config", tmp_path)
    (tmp_path / CONFIG_NAME).write_text('{"metod": "fastav"}')
    line = fail(*command, "--config", tmp_path)
    assert str(tmp_path / CONFIG_NAME) in line and "Did you mean 'method'" in line


def test_models_by_their_hub_id(invoke: Invoke, cache: Path, clip: Path) -> None:
    result = invoke("inspect", NAME, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"] == NAME
    assert said(result.stderr).endswith(CONFIG_NAME)
    command = ("generate", "--model", NAME, "--video", clip, "--question", "Who?")
    assert invoke(*command).exit_code == 0
    config = FastAVConfig.for_model(NAME)
    assert (config.method, config.visual_keep_ratio) == ("seats", 0.25)
    assert FastAVConfig.from_pretrained(NAME).source == f"{CONFIG_NAME} of {NAME}"


@pytest.mark.parametrize(
    "command",
    [
        ("inspect",),
        ("generate", "--question", "Who?", "--model"),
        ("demo", "--model"),
        ("eval", "--model"),
        ("visualize", "layers", "--model"),
        ("bench", "--shape"),
    ],
    ids=lambda command: command[0],
)
def test_a_hub_that_cannot_be_reached_is_one_line_at_once(
    fail: Callable[..., str], cache: Path, command: tuple[str, ...]
) -> None:
    start = time.monotonic()
    line = fail(*command, "org/missing")
    assert time.monotonic() - start < 60
    assert "'org/missing' is not a folder, not in the local cache, and the hub cannot be" in line
    assert "does not exist" in fail(*command, "./missing") or command[0] == "bench"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HF_ENDPOINT": NOWHERE}, "and the hub cannot be reached: "),
        ({"HF_HUB_OFFLINE": "1"}, "and HF_HUB_OFFLINE is set: unset it to download it."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_in_a_process_of_its_own(environment: dict[str, str], words: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastav_plugin", "inspect", "Qwen/Qwen2.5-Omni-7B"],
        env={
            **os.environ,
            "PYTHONPATH": with_checkout(),
            "HF_HOME": str(tmp_path),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert f"'Qwen/Qwen2.5-Omni-7B' is not a folder, not in the local cache, {words}" in line
