"""README.md stays short, and repeats what the code says."""

from __future__ import annotations

import configparser
import re
from typing import Any

import typer

from fastav_plugin.cli import app
from fastav_plugin.evaluation.formats.registry import FORMATS
from fastav_plugin.hooks import METHODS
from tests.architecture.imports import LEVELS
from tests.pages.markdown import PAGES, README, ROOT

LONGEST = 180


def first_column(page: str) -> set[str]:
    """Names in backticks in the first column of the tables of a page."""
    rows = re.findall(r"^\| (`.*?) \|", PAGES[page].prose, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_the_length() -> None:
    assert len(README.text.splitlines()) <= LONGEST


def test_the_two_commands_of_a_fresh_checkout_are_shown() -> None:
    lines = [
        line.split("#")[0].strip() for block in README.blocks("sh") for line in block.split("\n")
    ]
    assert {"make demo", "make test"} <= set(lines)


def test_the_methods_page_names_every_method() -> None:
    assert first_column("hooks/README.md") <= set(METHODS)
    assert set(METHODS) - {"none"} <= set(PAGES["hooks/README.md"].code())


def test_the_evaluation_page_names_every_format() -> None:
    assert first_column("fastav_plugin/evaluation/README.md") == {"--format", *FORMATS}


def test_the_tests_page_names_every_marker() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["tool:pytest"]["markers"].split("\n")
    markers = {line.partition(":")[0] for line in lines if line}
    shown = re.search(r"\| Marker \|.*?\n\n", PAGES["tests/README.md"].text, re.DOTALL)
    assert shown is not None
    assert set(re.findall(r"^\| `(\w+)` \|", shown[0], re.MULTILINE)) == markers


def test_the_command_line_page_names_every_command() -> None:
    group: Any = typer.main.get_command(app)
    assert first_column("fastav_plugin/cli/README.md") == set(group.commands)


def test_the_rooms_are_listed_from_the_top_down() -> None:
    levels = {room: level for level, rooms in enumerate(LEVELS) for room in rooms.split(" ")}
    rows = re.findall(r"^\| `(\w+/[\w/]*)`", PAGES["CONTRIBUTING.md"].prose, re.MULTILINE)
    rooms = [row.rstrip("/").removeprefix("fastav_plugin/").replace("/", ".") for row in rows]
    on_disk = {path.parent.name for path in (ROOT / "fastav_plugin").glob("*/__init__.py")}
    assert on_disk | {"hooks", "model_overrides", "model_overrides.tgi"} <= set(rooms)
    listed = [levels[room] for room in rooms if room in levels]
    assert len(listed) >= 15
    assert listed == sorted(listed)
