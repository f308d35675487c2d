"""The suite from the command line, and each number of its tables against another source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from fastav_plugin import FastAVConfig
from fastav_plugin.cli import app
from fastav_plugin.lab.papers import run
from fastav_plugin.lab.papers.markdown import render
from fastav_plugin.lab.papers.summary import cells, facets_of
from fastav_plugin.lab.papers.tower_memo import towers_once
from fastav_plugin.lab.testbed.model import build_model, build_processor, prepare_inputs
from fastav_plugin.lab.testbed.samples import SAMPLES

#: Random weights cost what trained ones cost.
RULES = {"video": "first 16 tokens", "audio": "first 10 tokens"}
TABLES = ("--table", "keep-ratio", "--table", "rules")
FEW = ("--questions", 6, "--limit", 3)


@pytest.fixture(scope="module", autouse=True)
def few_samples() -> Iterator[None]:
    """Six prompts instead of more, to find what an adaptive setting costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SAMPLE", 6)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    build_model().save_pretrained(path)
    build_processor().save_pretrained(path)
    FastAVConfig(global_layer=5, global_rule=RULES, audio_keep_ratio=0.25).save_pretrained(path)
    return path


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    path = tmp_path_factory.mktemp("answers")
    command = ["eval", "--suite", "papers", "--model", folder, *TABLES, *FEW]
    command += ["--resume", path / "a.jsonl", "--markdown", path / "a.md"]
    result = invoke(*command, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), path


def test_tables_hold_what_the_answers_say(found: tuple[dict[str, Any], Path]) -> None:
    result, path = found
    header, *lines = [json.loads(line) for line in (path / "a.jsonl").read_text().splitlines()]
    assert header["settings"] == result["settings"]
    assert result["questions"] == len(lines) == 3
    keys = [table["key"] for table in result["tables"]]
    assert keys == ["rules", "keep-ratio"]
    keep = {row["setting"]: row for row in result["tables"][1]["rows"]}
    assert list(keep) == ["dense", *(f"keep {tenth}0 %" for tenth in range(1, 10))]
    answers = [line["answers"]["divprune 0.3"] for line in lines]
    row = keep["keep 30 %"]
    assert row["accuracy"]["mean"] == sum(answer["score"] for answer in answers) / 3
    assert row["kl"] == pytest.approx(sum(answer["kl"] for answer in answers) / 3)
    same = [
        line["answers"]["dense"]["read"] == a["read"]
        for line, a in zip(lines, answers, strict=True)
    ]
    assert row["agreement"]["mean"] == sum(same) / 3
    # 13 or so others, and 30 % of 128 video and 200 audio tokens in each of 8 layers.
    assert row["tokens"] == pytest.approx(sum(a["tokens"][0] for a in answers) / 3)
    assert 38 + 60 + 10 < row["tokens"] < 38 + 60 + 16
    assert keep["dense"]["flops_ratio"] == 1 > keep["keep 90 %"]["flops_ratio"]


def test_rules_are_compared_at_equal_average_tokens(found: tuple[dict[str, Any], Path]) -> None:
    rows = {row["setting"]: row for row in found[0]["tables"][0]["rows"]}
    positional = rows["positional (FastAV)"]["tokens"]
    for name, row in rows.items():
        if name not in ("dense", "adaptive: a share of the rollout"):
            assert row["tokens"] == pytest.approx(positional, abs=1)
    assert rows["adaptive: a share of the rollout"]["planned_tokens"] == pytest.approx(
        positional, abs=3
    )
    assert "against_random" in rows["low-attentive"]
    assert "against_random" not in rows["random, seed 0"]


def test_a_resumed_run_answers_nothing_again(
    folder: Path, found: tuple[dict[str, Any], Path]
) -> None:
    result, path = found
    before = (path / "a.jsonl").read_bytes()
    command = ["eval", "--suite", "papers", "--model", folder, *TABLES, *FEW]
    again = invoke(*command, "--resume", path / "a.jsonl")
    assert again.exit_code == 0, again.output
    assert (path / "a.jsonl").read_bytes() == before
    for table in result["tables"]:
        assert table["title"] in " ".join(again.stdout.split())
    assert "3 questions about" in again.stderr
    assert "a resumed run" in again.stderr
    assert result["minutes"] > 0


def test_markdown_is_made_of_the_result(found: tuple[dict[str, Any], Path]) -> None:
    result, path = found
    text = (path / "a.md").read_text()
    assert text == render(result)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == sum(1 + len(table["rows"]) for table in result["tables"])
    assert {line.count("|") for line in lines[:3]} == {lines[0].count("|")}


def test_settings_are_chosen_on_other_clips(folder: Path, tmp_path: Path) -> None:
    chosen, answers = tmp_path / "chosen.json", tmp_path / "a.jsonl"
    command = ["eval", "--suite", "papers", "--model", folder, "--select", chosen, "--limit", 1]
    result = invoke(*command, "--resume", answers, "--json")
    assert result.exit_code == 0, result.output
    _, line = [json.loads(line) for line in answers.read_text().splitlines()]
    assert int(line["question"]["clip"].split("/")[1]) >= run.SELECTION_SEED
    recorded, printed = json.loads(chosen.read_text()), json.loads(result.stdout)
    assert recorded["first_clip"] == run.SELECTION_SEED
    assert len(recorded["rows"]) == len(printed["tables"][0]["rows"]) == len(line["answers"])
    for row, full in zip(recorded["rows"], printed["tables"][0]["rows"], strict=True):
        assert row.items() <= full.items()


def test_differences_that_are_none_stand_in_brackets() -> None:
    show = cells()["over random"]
    assert show({"against_random": {"mean": 0.02, "low": -0.01, "high": 0.05}}) == "(+2.0)"
    assert show({"against_random": {"mean": -0.02, "low": -0.03, "high": -0.01}}) == "-2.0"
    assert show({}) == ""


def test_facets() -> None:
    assert facets_of("colour", "late") == {"sight", "late"}
    assert facets_of("order", "early") == {"sound", "early"}
    assert facets_of("match", None) == {"both"}


def test_wrong_options(folder: Path) -> None:
    command = ("eval", "--suite", "papers", "--model", folder)
    for arguments, expected in {
        ("--table", "7"): "Unknown table '7'. Known: methods-fastav",
        ("--method", "fastav"): "settings and questions of its own",
        ("--select", "a.json", "--table", "rules"): "--select makes a table of its own",
        (
            "--suite",
            "testbed",
            "--table",
            "rules",
        ): "are about `--suite` papers, real-lm",
    }.items():
        result = invoke(*command, *arguments)
        assert result.exit_code == 2
        assert expected in result.stderr


def test_towers_run_once_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastav_plugin.media.clips import read_clip

    model: Any = build_model()
    media = [read_clip(sample.path) for sample in SAMPLES[:2]]
    prompts = [
        prepare_inputs(build_processor(), *media[place], text)
        for place, text in [(0, "Which sound is heard?"), (0, "Is the hum heard?"), (1, "Is it?")]
    ]
    calls: list[int] = []
    for name in ("visual", "audio_tower"):
        tower = getattr(model.model, name)
        tower.register_forward_pre_hook(lambda *args: calls.append(1))

    def logits(prompt: Any) -> Any:
        out = model.generate(
            **prompt, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
        )
        return out.logits[0]

    expected = [logits(prompt) for prompt in prompts]
    assert len(calls) == 6
    calls.clear()
    with towers_once(model):
        for _ in range(2):
            for prompt, stock in zip(prompts, expected, strict=True):
                assert torch.equal(logits(prompt), stock)
    assert "forward" not in vars(model.model.visual)
