"""What README.md shows runs as it stands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

import fastav_plugin
from fastav_plugin.hooks.base import HOOKS, METHODS
from fastav_plugin.lab.testbed.model import build_model, build_processor, prepare_inputs
from fastav_plugin.media.clips import read_clip
from fastav_plugin.model_overrides.registry import OVERRIDES
from tests.support.cache_names import CACHE, passing

README = Path(fastav_plugin.__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    return [str(block) for block in found]


@pytest.fixture
def registries() -> Iterator[None]:
    """What the examples register is forgotten afterwards."""
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (registry, dict(registry)) for registry in (HOOKS, METHODS, OVERRIDES)
    ]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


def test_every_python_block_runs(
    registries: None, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frames, waveform = read_clip(clip)
    inputs = prepare_inputs(build_processor(), frames, waveform, "Which sound is heard?")
    question_ids = inputs["input_ids"][:, -9:]
    names: dict[str, Any] = {"model": build_model(), "inputs": inputs, "torch": torch}
    names["question_ids"] = question_ids
    for block in blocks("python"):
        named = re.sub(r"\bcache=", f"{CACHE}=", block)
        exec(compile(named, str(README), "exec"), names)
    # The classes shown are what they claim to be.
    cache = fastav_plugin.FastAVCache(names["cfg"])
    with torch.no_grad():
        names["model"].generate(**inputs, **passing(cache))
    counts = cache.report().tokens_per_layer
    assert counts[0] > counts[-1]
    assert names["MyFamily"]().placeholders(type("Config", (), {"clip_token_id": 5})())


def test_every_command_has_the_options_shown(invoke: Callable[..., Result]) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith("fastav ")]
    shown_commands = {command for _, command, *_ in commands}
    assert shown_commands >= {"demo", "eval", "generate", "inspect", "models", "bench"}
    groups = {"visualize"}
    for _, command, *arguments in commands:
        path = (command, arguments[0]) if command in groups else (command,)
        shown = invoke(*path, "--help").stdout
        for option in arguments:
            assert not option.startswith("--") or option in shown, (command, option)


def test_make_targets_exist() -> None:
    makefile = (README.parent / "Makefile").read_text()
    targets = {
        line.split()[1]
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("make ")
    }
    assert targets >= {"demo", "test"}
    known = {name for names in re.findall(r"^([\w -]+):", makefile, re.M) for name in names.split()}
    assert targets <= known
