"""Every shell line of every page names commands, options, targets and files that there are."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import runpy
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]

from fastav_plugin.cli import app
from fastav_plugin.model_overrides.tgi.launcher import OPTIONS
from tests.pages.markdown import PAGES, ROOT

#: Outputs and drawings, which nothing runs.
SHOWN = {"text"}
CHECKED = {"python", "sh", "yaml", "json"}
#: Programs of others, whose options are theirs.
OTHERS = {"docker", "kubectl", "curl", "hf", "lmms-eval", "text-generation-launcher"}


def lines() -> Iterator[tuple[str, list[str]]]:
    """Page and words of every command, without comments; continued lines are one."""
    for name, page in PAGES.items():
        for block in page.blocks("sh"):
            for words in commands(block):
                yield name, words


def commands(block: str) -> Iterator[list[str]]:
    """Words of each command of a block."""
    waiting = ""
    for line in block.splitlines():
        waiting += line.removesuffix("\\") + "\n"
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # a quoted text goes on in the next line
            continue
        waiting = ""
        while words and re.fullmatch(r"\w+=\S*", words[0]):
            words = words[1:]
        if words:
            yield words[: words.index(">")] if ">" in words else words
    assert not waiting.strip(), f"unfinished command: {waiting}"


LINES = list(lines())
FASTAV = [(name, words[1:]) for name, words in LINES if words[0] == "fastav"]
MODULES = [(name, words[2:]) for name, words in LINES if words[:2] == ["python", "-m"]]


def test_every_block_has_a_language_that_is_checked() -> None:
    for name, page in PAGES.items():
        found = {language for language, _ in page.fences()}
        assert found <= SHOWN | CHECKED, name
        # An indented block would not be seen.
        assert not re.search(r"\n\n {4}(?! *[-*\d])\S", page.prose), name


def test_every_line_is_of_a_known_program() -> None:
    known = {"fastav", "fastav-tgi-launcher", "make", "pip", "python", "git"} | OTHERS
    for name, (program, *_) in LINES:
        assert program in known or (ROOT / program).is_file(), (name, program)
    assert {words[0] for _, words in FASTAV} >= {
        *("demo", "eval", "generate", "inspect", "models", "bench", "calibrate", "convert"),
        *("serve", "visualize"),
    }


@pytest.mark.parametrize("index", range(len(FASTAV)), ids=lambda i: " ".join(FASTAV[i][1][:2]))
def test_fastav(index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line parses: options, their values, and nothing left over."""
    monkeypatch.chdir(tmp_path)
    _, arguments = FASTAV[index]
    for word in arguments:
        if re.fullmatch(r"[\w./-]+\.(?:json|jsonl|mp4|safetensors|png)", word):
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).touch()
        elif word.startswith("./") or word == "videos":
            Path(word).mkdir(exist_ok=True)
    command: Any = typer.main.get_command(app)
    while hasattr(command, "resolve_command"):
        context = command.make_context("fastav", [], resilient_parsing=True)
        _, command, arguments = command.resolve_command(context, arguments)
    with command.make_context("fastav", arguments) as context:
        assert not context.args


@pytest.mark.parametrize("index", range(len(MODULES)), ids=lambda i: MODULES[i][1][0])
def test_modules(
    index: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The module is there, and its help names the options."""
    _, (module, *arguments) = MODULES[index]
    if module == "torch.distributed.run":  # starts the module that follows
        at = arguments.index("-m")
        module, *arguments = arguments[at + 1 :]
    options = {word.partition("=")[0] for word in arguments if word.startswith("-")}
    assert importlib.util.find_spec(module) is not None
    if module == "pytest" or not options:
        return
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the module may have been imported by another test
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert not [option for option in options if option not in shown]


def test_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    known = {name for names in re.findall(r"^([\w -]+):", makefile, re.M) for name in names.split()}
    shown = {words[1] for _, words in LINES if words[0] == "make" and len(words) > 1}
    assert shown >= {"demo", "test", "test-all", "test-releases", "canary"}
    assert shown <= known


def test_pip_lines() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"])
    for name, words in LINES:
        if words[0] != "pip":
            continue
        for word in words[1:]:
            named = re.match(r"(?:\.|fastav-plugin)\[([\w,]+)\]", word)
            assert named is None or set(named[1].split(",")) <= extras, (name, word)
        files = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("-r", "-c")]
        assert all((ROOT / file).is_file() for file in files), (name, files)


def test_options_of_the_launcher() -> None:
    found = [words for _, words in LINES if words[0] == "fastav-tgi-launcher"]
    assert found
    for words in found:
        assert {word for word in words if word.startswith("--")} <= {*OPTIONS, "--model-id"}


@pytest.mark.parametrize(("language", "read"), [("yaml", yaml.safe_load), ("json", json.loads)])
def test_data_blocks(language: str, read: Any) -> None:
    for page in PAGES.values():
        for block in page.blocks(language):
            assert read(block)
