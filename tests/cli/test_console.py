"""The command line as a whole: help, version, errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import fastav_plugin
from fastav_plugin.cli.options.pruning import Ratios
from fastav_plugin.cli.progress import progress
from fastav_plugin.errors import ConfigError
from fastav_plugin.global_rule import read_rules

Invoke = Callable[..., Result]
COMMANDS = ("demo", "generate", "inspect", "models", "bench", "eval")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(invoke: Invoke, command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"Example: fastav {command}" in result.stdout
    assert "--json" in result.stdout


def test_help_lists_every_command(invoke: Invoke) -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)


def test_version(invoke: Invoke) -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"fastav {fastav_plugin.__version__}\n")


def test_wrong_usage_is_one_line(fail: Callable[..., str]) -> None:
    assert "No such command 'frobnicate'" in fail("frobnicate")
    assert "No such option" in fail("models", "--frobnicate")
    assert "'--repeats'" in fail("bench", "--repeats", "many")
    assert "Try 'fastav bench --help'" in fail("bench", "--repeats", "0")


def test_debug_shows_the_traceback(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("--debug", "inspect", tmp_path)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("fastav: error: ")


def test_a_bug_keeps_its_traceback(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("fastav_plugin.cli.models.print_json", broken)
    assert isinstance(invoke("models", "--json").exception, ZeroDivisionError)


def test_without_arguments_it_shows_help(invoke: Invoke) -> None:
    for given in ((), ("visualize",)):
        result = invoke(*given)
        assert (result.exit_code, result.stderr) == (2, "")
        assert "Usage" in result.stdout


def test_the_command_line_imports_without_extras() -> None:
    extras = dict.fromkeys(["av", "matplotlib", "PIL", "soundfile"])
    code = f"import sys; sys.modules.update({extras}); import fastav_plugin.cli"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rules_and_settings() -> None:
    assert read_rules(" below 750") == "below 750"
    assert read_rules("video=all, audio=first 10 tokens") == {
        "video": "all",
        "audio": "first 10 tokens",
    }
    ratios = Ratios("all", 0.3, settings=["global_layer=10", "positions=renumbered"])
    assert ratios.overrides() == {
        "global_rule": "all",
        "fine_drop_ratio": 0.3,
        "global_layer": 10,
        "positions": "renumbered",
    }
    with pytest.raises(ConfigError, match="name=value"):
        Ratios(settings=["global_layer"]).overrides()


def test_progress_counts_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", 2) as tick:
        tick("one")
        tick("two")
    assert capsys.readouterr().out == ""
