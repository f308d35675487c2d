"""A checkpoint folder with its real processor, and a real clip."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fastav_plugin.cli import app, progress
from fastav_plugin.lab.testbed.media import write_clip
from fastav_plugin.lab.testbed.model import build_model, build_processor
from fastav_plugin.lab.testbed.world import Difficulty, sample_clip

Invoke = Callable[..., Result]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    build_model().save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    write_clip(path, sample_clip(3, Difficulty(2)))
    return path


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command here; lines of progress would depend on the speed of the machine."""
    monkeypatch.setattr(progress, "FIRST", float("1e6"))

    def call(*arguments: Any) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def invoke_json(invoke: Invoke) -> Callable[..., Any]:
    """Run a command with --json, which must succeed and print nothing but JSON."""

    def call(*arguments: Any) -> Any:
        result = invoke(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return call


@pytest.fixture
def fail(invoke: Invoke) -> Callable[..., str]:
    """Run a command that must end with status 2 and one line on stderr; returns the line.

    The line that says where its settings are from may stand before it.
    """

    def call(*arguments: Any) -> str:
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        lines = [x for x in result.stderr.splitlines() if not x.startswith("Settings: ")]
        assert len(lines) == 1, result.stderr
        assert "Traceback" not in result.output
        return lines[0]

    return call
