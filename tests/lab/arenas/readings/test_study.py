"""A study of a tiny model, and its tables against a recomputation question by question."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
import torch
import typer
from typer.testing import CliRunner

from fastav_plugin.errors import ConfigError
from fastav_plugin.lab.arenas.readings import __main__ as command
from fastav_plugin.lab.arenas.readings.rankings import LAST, ORACLE, RANDOM, RANKINGS, SINKS
from fastav_plugin.lab.arenas.readings.study import Study, run_study
from fastav_plugin.lab.arenas.readings.tables import (
    evidence_share,
    layer_rows,
    ranking_rows,
    render,
)
from tests.support import small_models
from tests.support.tiny_arena import LENGTH, MEDIA, TinyArena

EVIDENCE = range(20, 30)
COUNT = round(0.1 * (MEDIA[1] - MEDIA[0]))
LAYER = 2


@pytest.fixture(scope="module")
def arena() -> TinyArena:
    return TinyArena.make()


@pytest.fixture(scope="module")
def study(arena: TinyArena) -> Study:
    return run_study(arena, arena.questions(5, 0), layer=LAYER, keep=0.1)


def eager(number: int) -> list[list[float]]:
    """The last query's attention to all positions, mean over heads, of each layer."""
    question = TinyArena.make().questions(5, 0)[number]
    model = small_models.qwen2(attention="eager")
    with torch.no_grad():
        maps = model(question.inputs["input_ids"], output_attentions=True).attentions
    return [each[0, :, -1].mean(0).tolist() for each in maps]


def best(row: list[float]) -> set[int]:
    return set(sorted(range(*MEDIA), key=lambda position: -row[position])[:COUNT])


def test_questions_that_dense_answers_are_cut(study: Study) -> None:
    # Of five the third is wrong by definition.
    right = [each.question.name for each in study.right]
    assert right == ["0-0", "0-1", "0-3", "0-4"]
    assert set(study.cuts) == {(name, label) for name in right for label in RANKINGS}
    assert all(int(cut.kept.sum()) == COUNT for cut in study.cuts.values())
    for cut in study.cuts.values():
        text = LENGTH - (MEDIA[1] - MEDIA[0])
        assert cut.outcome.tokens == [LENGTH, LENGTH, text + COUNT, text + COUNT]


def test_the_engine_keeps_the_same_tokens(study: Study) -> None:
    assert study.as_engine == [True] * 4


def test_equal_cuts_have_one_outcome_and_others_differ(study: Study) -> None:
    texts = {study.cuts["0-0", label].outcome.text for label in RANKINGS}
    assert len(texts) > 1
    first, other = study.cuts["0-0", LAST], study.cuts["0-0", "maximum over heads"]
    assert torch.equal(first.kept, other.kept) == (first.outcome is other.outcome)


def test_random_draws_differ_between_questions_and_not_between_runs(
    study: Study, arena: TinyArena
) -> None:
    again = run_study(arena, arena.questions(2, 0), layer=LAYER, keep=0.1)
    own = study.cuts["0-0", RANDOM].kept
    assert torch.equal(again.cuts["0-0", RANDOM].kept, own)
    assert not torch.equal(study.cuts["0-1", RANDOM].kept, own)


def test_the_table_of_rankings(study: Study) -> None:
    rows = {row["ranking"]: row for row in ranking_rows(study)}
    assert list(rows) == list(RANKINGS)
    right = [study.cuts[each.question.name, LAST].outcome.right for each in study.right]
    assert rows[LAST]["retained"]["mean"] == sum(right) / 4
    assert rows[LAST]["against_last"]["mean"] == 0
    found = [len(best(eager(number)[LAYER - 1]) & set(EVIDENCE)) for number in (0, 1, 3, 4)]
    assert rows[LAST]["recall"]["mean"] == pytest.approx(sum(found) / 4 / len(EVIDENCE))
    assert rows[LAST]["precision"]["mean"] == pytest.approx(sum(found) / 4 / COUNT)
    assert rows[ORACLE]["recall"]["mean"] == 1.0
    assert evidence_share(study) == pytest.approx(len(EVIDENCE) / (MEDIA[1] - MEDIA[0]))


def test_the_table_of_layers(study: Study) -> None:
    rows = layer_rows(study)
    maps = {number: eager(number) for number in (0, 1, 3, 4)}
    for layer, row in enumerate(rows):
        own = {number: best(found[layer]) for number, found in maps.items()}
        recall = sum(len(kept & set(EVIDENCE)) for kept in own.values()) / 4 / len(EVIDENCE)
        assert row["recall"]["mean"] == pytest.approx(recall)
        media = [sum(found[layer][MEDIA[0] : MEDIA[1]]) for found in maps.values()]
        assert row["media"]["mean"] == pytest.approx(sum(media) / 4, abs=1e-5)
        sinks, ends = [], []
        for found, whole in zip(maps.values(), media, strict=True):
            most = sorted(range(*MEDIA), key=lambda place: -found[layer][place])[:SINKS]
            sinks.append(sum(found[layer][place] for place in most) / whole)
            at_end = [p for p in most if p < MEDIA[0] + SINKS or p >= MEDIA[1] - SINKS]
            ends.append(len(at_end) / SINKS)
        assert row["sinks"]["mean"] == pytest.approx(sum(sinks) / 4, abs=1e-5)
        assert row["ends"]["mean"] == pytest.approx(sum(ends) / 4)
        # Questions 0 and 1 are about one passage, 3 and 4 about one each.
        pairs = [(a, b) for a, b in combinations(own, 2) if a // 2 == b // 2]
        assert pairs == [(0, 1)]
        assert row["same"]["mean"] == pytest.approx(len(own[0] & own[1]) / COUNT)
    assert len(rows) == 4


def test_what_cannot_be_studied_is_refused(arena: TinyArena) -> None:
    asked = arena.questions(1, 0)
    with pytest.raises(ConfigError, match=r"\[1, 3\], got 4"):
        run_study(arena, asked, layer=4, keep=0.1)
    with pytest.raises(ConfigError, match="keep"):
        run_study(arena, asked, layer=2, keep=0.0)


def test_nothing_right_makes_no_table(arena: TinyArena) -> None:
    found = run_study(arena, arena.questions(3, 0)[2:], layer=LAYER, keep=0.1)
    assert not found.right
    assert layer_rows(found) == []
    assert "No question" in render(layer_rows(found))
    assert all(row["retained"] is None for row in ranking_rows(found))


def test_the_command_prints_json_alone(arena: TinyArena, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_load", lambda *given: arena)
    app = typer.Typer()
    app.command()(command.main)
    given = ["real-lm", "--questions", "2", "--layer", "2", "--json"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["layer"], found["questions"], found["answered"]) == (2, 2, 2)
    assert len(found["rankings"]) == len(RANKINGS)
    assert len(found["layers"]) == 4
    shown = CliRunner().invoke(app, given[:-1])
    assert "| 5 sinks protected |" in shown.stdout
    refused = CliRunner().invoke(app, [*given[:3], "--layer", "9"])
    assert refused.exit_code == 1
    assert "[1, 3]" in refused.stderr
