"""A run asks each question once, resumes, and its tables are what its outcomes amount to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastav_plugin import ConfigError
from fastav_plugin.lab.arenas import measure
from fastav_plugin.lab.arenas import run as run_module
from fastav_plugin.lab.arenas.log import OutcomeLog
from fastav_plugin.lab.arenas.markdown import render_table
from fastav_plugin.lab.arenas.run import Found, Wanted, run_arena
from fastav_plugin.lab.arenas.setting import Sizes, find_settings
from fastav_plugin.lab.arenas.summary import Solved, summarise_dense, summarise_tables
from fastav_plugin.lab.arenas.tables import make_tables
from tests.support.tiny_arena import TinyArena

KEYS = ["quick", "second-question"]
HEADER = {"suite": "tiny", "seed": 0}


@pytest.fixture(scope="module")
def arena() -> TinyArena:
    return TinyArena.make()


@pytest.fixture(scope="module")
def solved(arena: TinyArena) -> list[Solved]:
    sizes = Sizes(arena, arena.questions(2, 0))
    tables = make_tables(KEYS, sizes.layers, sizes.maps[0])
    return [(table, *find_settings(table, sizes)) for table in tables]


@pytest.fixture(scope="module")
def wanted(solved: list[Solved]) -> list[Wanted]:
    return [Wanted(setting, table.second) for table, found, _ in solved for setting in found]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arena") / "log.jsonl"


@pytest.fixture(scope="module")
def found(arena: TinyArena, wanted: list[Wanted], path: Path) -> Found:
    with OutcomeLog(path, HEADER) as log:
        return run_arena(arena, arena.questions(6, 0), wanted, log)


def test_questions_that_dense_does_not_answer_are_asked_under_no_setting(found: Found) -> None:
    assert [outcome.right for outcome in found.dense.values()] == [True, True, False] * 2
    assert {name for name, _ in found.pruned} == {"0-0", "0-1", "0-3", "0-4"}


def test_controls_have_the_tokens_of_their_settings(found: Found) -> None:
    assert set(found.controls) == set(found.pruned)
    for key, outcome in found.pruned.items():
        assert found.controls[key].tokens == outcome.tokens


def test_a_stopped_run_goes_on_without_asking_again(
    arena: TinyArena,
    wanted: list[Wanted],
    path: Path,
    found: Found,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = path.read_text().splitlines()
    asked: list[str] = []

    def counting(*args: Any, **kwargs: Any) -> Any:
        asked.append(args[2].name)
        return measure.answer_pruned(*args, **kwargs)

    monkeypatch.setattr(run_module, "answer_pruned", counting)
    half = tmp_path / "half.jsonl"
    # In the middle of a line, as a killed process leaves it.
    half.write_text("\n".join([*lines[: len(lines) // 2], lines[-1][:40]]))
    with OutcomeLog(half, HEADER) as log:
        again = run_arena(arena, arena.questions(6, 0), wanted, log)
    assert again.pruned == found.pruned
    assert again.controls == found.controls
    assert 0 < len(asked) < len(lines)
    asked.clear()
    with OutcomeLog(half, HEADER) as log:
        assert run_arena(arena, arena.questions(6, 0), wanted, log).pruned == found.pruned
    assert asked == []


def test_another_seed_has_another_file(path: Path, found: Found) -> None:
    assert found.questions
    with pytest.raises(ConfigError, match="seed differ"):
        OutcomeLog(path, {**HEADER, "seed": 1})


def test_tables_are_what_the_outcomes_amount_to(found: Found, solved: list[Solved]) -> None:
    quick, second = summarise_tables(found, solved)
    assert [row["setting"] for row in quick["rows"]][0] == "dense"
    names = ["0-0", "0-1", "0-3", "0-4"]
    for (_, settings, _), table in zip(solved, (quick, second), strict=True):
        for setting, row in zip(settings, table["rows"][1:], strict=True):
            own = [found.pruned[name, setting.digest] for name in names]
            drawn = [found.controls[name, setting.digest] for name in names]
            right = sum(outcome.right for outcome in own) / 4
            assert row["accuracy"]["mean"] == pytest.approx(right)
            change = right - sum(outcome.right for outcome in drawn) / 4
            assert row["against_random"]["mean"] == pytest.approx(change)
            assert row["kl"] == pytest.approx(sum(outcome.kl for outcome in own) / 4)
            tokens = sum(sum(outcome.tokens) for outcome in own) / 4 / 4
            assert row["tokens"] == pytest.approx(tokens)
            assert row["tokens_share"] == pytest.approx(tokens / 110)
            assert row["places"]["early"]["mean"] == pytest.approx(right)
    assert quick["rows"][0]["accuracy"]["mean"] == 1
    dense = summarise_dense(found)
    assert dense["accuracy"]["mean"] == pytest.approx(4 / 6)
    assert dense["kinds"]["first"] == {"questions": 3, "mean": pytest.approx(2 / 3)}
    json.dumps([quick, second, dense])


def test_markdown_has_a_line_for_each_row(found: Found, solved: list[Solved]) -> None:
    table = summarise_tables(found, solved)[0]
    text = render_table({**table, "left_out": [{"setting": "x", "reason": "Too dear."}]})
    assert sum(line.startswith("| ") for line in text.splitlines()) == 1 + len(table["rows"])
    assert text.endswith("Left out: x: Too dear.")


def test_a_setting_that_fails_is_named_and_the_others_go_on(
    arena: TinyArena, wanted: list[Wanted], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: Any, **kwargs: Any) -> Any:
        hooks = args[3].hooks
        if isinstance(hooks[0], dict) and hooks[0]["name"] == "div_prune":
            raise ConfigError("Not here.")
        return measure.answer_pruned(*args, **kwargs)

    monkeypatch.setattr(run_module, "answer_pruned", failing)
    found = run_arena(arena, arena.questions(1, 0), wanted, OutcomeLog(None, {}))
    assert found.failed == {"divprune 50 %": "Not here."}
    assert found.pruned
