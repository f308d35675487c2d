"""What answers without computing anything does not wait for torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import with_checkout

ROOT = Path(__file__).parents[2]
#: The command line in a process in which the libraries that take seconds cannot be imported.
ALONE = """
import sys
for name in ("torch", "transformers", "safetensors", "huggingface_hub", "matplotlib", "av", "PIL"):
    sys.modules[name] = None
from fastav_plugin.cli import main
main()
"""
COMMANDS = ("bench", "calibrate", "convert", "demo", "eval", "generate", "inspect", "models")
PICTURES = ("attention", "bench", "explore", "layers", "pruning", "tradeoff")


def fastav(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ALONE, *arguments],
        env={**os.environ, "PYTHONPATH": with_checkout(), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        *((command, "--help") for command in COMMANDS),
        *(("visualize", command, "--help") for command in PICTURES),
    ],
    ids=" ".join,
)
def test_help_needs_no_torch(arguments: tuple[str, ...]) -> None:
    done = fastav(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fastav" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("genrate",), "Did you mean 'generate'?"),
        (("generate", "--modle", "x"), "Possible options: --method, --model"),
        (("generate", "--model", "/no/such/folder", "--question", "Why?"), "does not exist"),
        (("demo", "--repeats", "none"), "valid integer"),
    ],
)
def test_nor_does_a_mistake(arguments: tuple[str, ...], message: str) -> None:
    done = fastav(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("fastav: error: ")
    assert message in done.stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [("fastav gen", ["generate"]), ("fastav generate --keep", ["--keep-ratio"])],
)
def test_nor_does_completion(words: str, found: list[str]) -> None:
    count = str(len(words.split()) - 1)
    done = fastav(_FASTAV_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert (done.stdout.split(), done.stderr) == (found, "")
