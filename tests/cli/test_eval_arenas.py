"""fastav eval on arenas, and the frontier that is drawn of it, with a tiny model in their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastav_plugin.cli.evaluation import arenas
from tests.support.tiny_arena import TinyArena

Invoke = Callable[..., Any]
Fail = Callable[..., str]

COMMAND = ("eval", "--suite", "real-lm", "--questions", 4, "--seed", 2)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arenas, "load_arena", lambda suite, options: TinyArena.make())


def test_tables_as_json_markdown_and_picture(
    invoke: Invoke, invoke_json: Callable[..., Any], tmp_path: Path
) -> None:
    log, page = tmp_path / "log.jsonl", tmp_path / "page.md"
    command = [*COMMAND, "--tables", "late-removal,upper-bound", "--resume", log]
    found = invoke_json(*command, "--markdown", page)
    assert [table["key"] for table in found["tables"]] == ["late-removal", "upper-bound"]
    assert (found["questions"], found["answered"], found["clips"], found["seed"]) == (4, 3, 2, 2)
    assert found["minutes"] is not None
    count = len(log.read_text().splitlines())
    again = invoke_json(*command)
    assert again["tables"] == found["tables"]
    assert again["minutes"] is None
    assert len(log.read_text().splitlines()) == count
    assert "| no media from layer 3 on |" in page.read_text()

    pytest.importorskip("matplotlib")
    result = tmp_path / "found.json"
    result.write_text(json.dumps(found))
    picture = tmp_path / "frontier.png"
    drawn = invoke_json("visualize", "frontier", result, "-o", picture)
    assert drawn["files"] == [str(picture)]
    assert set(drawn["best"]["real-lm"]) <= {"0.77", "0.65", "0.50", "0.25"}
    names = [each["name"] for each in drawn["settings"]["real-lm"]]
    assert "no media from layer 3 on" in names
    printed = invoke("visualize", "frontier", result, "-o", picture)
    assert printed.exit_code == 0, printed.output
    assert "best setting" in printed.stdout


def test_the_quick_form_prints_one_table(invoke: Invoke) -> None:
    result = invoke(*COMMAND, "--quick")
    assert result.exit_code == 0, result.output
    assert "A few settings" in result.stdout
    assert "late removal" in result.stdout
    assert "dense answers 3 of 4 questions" in " ".join(result.stderr.split())


def test_options_of_other_suites_are_refused(fail: Fail) -> None:
    assert "--method" in fail(*COMMAND, "--method", "fastav")
    assert "--preset" in fail(*COMMAND, "--preset", "fast")
    assert "--keep-ratio" in fail(*COMMAND, "--keep-ratio", "0.25")
    assert "--dtype" in fail(*COMMAND, "--dtype", "bfloat16")
    assert "'methods-50'" in fail(*COMMAND, "--tables", "methods-51")
    assert "--quick" in fail(*COMMAND, "--quick", "--tables", "one-cut")
    assert "'short'" in fail(*COMMAND, "--passages", "shorts")
    assert "real-lm" in fail("eval", "--suite", "real-audio", "--passages", "long")
    assert "real-lm" in fail("eval", "--quick")
    assert "--markdown" in fail("eval", "--markdown", "x.md")
    assert "Unknown table 'rules'" in fail(*COMMAND, "--table", "rules")
    assert "--tables" in fail("eval", "--tables", "rules")
