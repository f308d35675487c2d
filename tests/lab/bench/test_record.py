"""The measurement that ships with the package is the one of the pages, and can be repeated."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from fastav_plugin.cli import app
from fastav_plugin.lab.bench.record import RECORD, read_record

ROOT = Path(__file__).parents[3]


def test_it_is_the_file_of_the_pages() -> None:
    assert RECORD.read_bytes() == (ROOT / "deploy/benchmarks/results" / RECORD.name).read_bytes()
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert RECORD.name in parser["options.package_data"]["fastav_plugin.lab.bench"].split()


@pytest.mark.parametrize("page", ["README.md", "deploy/benchmarks/README.md"])
def test_its_command_is_that_of_the_pages(page: str) -> None:
    assert read_record()["command"] in (ROOT / page).read_text(encoding="utf-8").splitlines()


def test_its_command_asks_for_what_was_measured() -> None:
    found = read_record()
    program, name, *arguments = shlex.split(found["command"])
    assert (program, name) == ("fastav", "bench")
    given = get_command(app).commands[name].make_context(name, arguments).params  # type: ignore[attr-defined]
    for option in ("shape", "repeats", "new_tokens", "dtype"):
        assert given[option] == found[option]
    assert given["threads"] == found["machine"]["threads"]
    assert given["idle"] is False
    assert given["keep_ratio"] == found["overrides"]["visual_keep_ratio"]
    assert given["audio_keep_ratio"] == found["overrides"]["audio_keep_ratio"]
    assert given["methods"].split(",") == [case["case"] for case in found["cases"][1:]]
