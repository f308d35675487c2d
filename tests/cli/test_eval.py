from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from fastav_plugin import FastAVConfig
from fastav_plugin.cli.options.compared import Compared, split_configs
from fastav_plugin.cli.options.pruning import DEFAULT_METHODS, Ratios
from fastav_plugin.lab.testbed.tasks import TASKS

Invoke = Callable[..., Result]
QUARTER = '{"method": "divprune", "visual_keep_ratio": 0.25, "audio_keep_ratio": 0.25}'
FEW = ("--questions", 6, "--limit", 2)


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    for part in found["sets"]:
        for row in part["rows"]:
            assert row.pop("prefill_seconds") > 0
    return found


def test_json(invoke_json: Callable[..., Any], checkpoint: Path, tmp_path: Path) -> None:
    command = ["eval", "--suite", "testbed", "--model", checkpoint, "--questions", 6]
    command += ["--limit", 3, "--method", "divprune", "--config", f"quarter={QUARTER}", "--all"]
    path = tmp_path / "answers.jsonl"
    found = timeless(invoke_json(*command, "--resume", path))
    assert found["settings"]["quarter"]["visual_keep_ratio"] == 0.25
    assert [part["held_out"] for part in found["sets"]] == ["clips", "combinations"]
    for part in found["sets"]:
        assert part["questions"] == 3
        assert [row["setting"] for row in part["rows"]] == ["dense", "divprune", "quarter"]
        assert set(part["rows"][0]["tasks"]) < set(TASKS)
    assert len(path.read_text().splitlines()) == 7
    path.write_bytes(path.read_bytes()[:-600])  # killed in the middle of a line
    assert len(path.read_text().splitlines()) == 7
    assert timeless(invoke_json(*command, "--output", path)) == found
    assert len(path.read_text().splitlines()) == 7
    other = timeless(invoke_json(*command, "--resume", path, "--seed", 1))
    assert other["bootstrap"]["seed"] == 1


def test_the_tables_and_the_saved_settings(
    invoke: Invoke, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    FastAVConfig(visual_keep_ratio=0.25, audio_keep_ratio=0.5).save_pretrained(folder)
    result = invoke(
        "eval", "--model", folder, *FEW, "--combinations", "--rule", "audio=first 10 tokens"
    )
    assert result.exit_code == 0, result.output
    assert "Held-out combinations: 2 questions about" in result.stdout
    for name in ("dense", *DEFAULT_METHODS, "chance"):
        assert f"\n{name} " in result.stdout
    assert "25.0 %" in result.stdout  # the model's own visual share
    assert "50.0 %" in result.stdout


def test_a_setting_that_cuts_nothing_is_named(invoke: Invoke, checkpoint: Path) -> None:
    result = invoke("eval", "--model", checkpoint, *FEW, "--method", "none")
    assert result.exit_code == 0, result.output
    assert "none: nothing was cut in 2 questions." in result.stderr


def test_dense_alone(invoke_json: Callable[..., Any], checkpoint: Path) -> None:
    found = invoke_json("eval", "--model", checkpoint, *FEW, "--method", "dense")
    assert [row["setting"] for row in found["sets"][0]["rows"]] == ["dense"]


def test_another_model_or_settings_are_one_line(
    fail: Callable[..., str], invoke: Invoke, checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    command = ("eval", "--model", checkpoint, *FEW, "--resume", path)
    assert invoke(*command, "--method", "divprune").exit_code == 0
    before = path.read_bytes()
    line = fail(*command, "--method", "divprune", "--keep-ratio", 0.25)
    assert "settings differ" in line
    assert path.read_bytes() == before
    content = before.decode().replace(json.loads(before.splitlines()[0])["model"], "0")
    path.write_text(content)
    assert "model differ" in fail(*command, "--method", "divprune")


def test_wrong_options(
    fail: Callable[..., str],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ("eval", "--model", checkpoint)
    assert "must be one of testbed" in fail(*command, "--suite", "avqa")
    assert "a folder or NAME=JSON" in fail(*command, "--config", "quarter")
    assert "without a name" in fail(*command, "--config", tmp_path, "--config", tmp_path)
    assert "no JSON object" in fail(*command, "--config", "quarter={0.25}")
    assert "Cannot read the config file" in fail(*command, "--config", "quarter=missing.json")
    assert "Did you mean" in fail(*command, "--config", 'quarter={"keep": 1}')
    assert "Two settings are named" in fail(*command, "-m", "fastav", "--config", "fastav={}")
    assert "Two settings are named" in fail(*command, "--config", "dense={}")
    assert "Unknown method" in fail(*command, "--method", "magic")
    assert "cannot be used here" in fail(*command, "--device", "abacus")
    monkeypatch.setattr("fastav_plugin.lab.testbed.model.MODEL_PATH", tmp_path)
    assert "fastav_plugin.lab.testbed.training.train" in fail("eval")


def test_settings_from_a_file(tmp_path: Path, checkpoint: Path) -> None:
    from fastav_plugin.model_overrides.own_models.configuration import read_config

    FastAVConfig(method="divprune", audio_keep_ratio=0.25).save_pretrained(tmp_path)
    config = read_config(checkpoint)
    place, named = split_configs([f"a={tmp_path}", f"b={QUARTER}"])
    assert place is None
    settings = Ratios().of(config)
    found = Compared.of(settings, None, named).configs(config)
    assert found["a"].audio_keep_ratio == 0.25
    assert found["b"].visual_keep_ratio == 0.25
    plain = Compared.of(settings, None, {})
    assert list(plain.configs(config)) == list(DEFAULT_METHODS)


def said(result: Result) -> str:
    """What the one line about settings says."""
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Settings: ")]
    return line.removeprefix("Settings: ")


def test_the_line_about_settings_says_where_each_is_from(
    invoke: Invoke, checkpoint: Path, tmp_path: Path
) -> None:
    FastAVConfig(method="divprune", visual_keep_ratio=0.75).save_pretrained(tmp_path)
    command = ("eval", "--model", checkpoint, "--questions", 6, "--limit", 1)
    mine, file = ("--config", f"mine={tmp_path}"), tmp_path / "fastav_config.json"
    assert said(invoke(*command, *mine)) == f"mine: {file}"
    few = ("--config", 'few={"visual_keep_ratio": 0.25}')
    ratio = ("--keep-ratio", 0.9, "--drop-ratio", 0.1)
    found = invoke(*command, *mine, *few, *ratio, "-m", "divprune", "--json")
    assert said(found) == (
        "divprune: the family's defaults, with --drop-ratio, --keep-ratio and --method given; "
        f"mine: {file}; few: its JSON over the family's defaults, with --drop-ratio given"
    )
    settings = json.loads(found.stdout)["settings"]
    ratios = [settings[name]["visual_keep_ratio"] for name in ("divprune", "mine", "few")]
    assert ratios == [0.9, 0.75, 0.25]
    preset = invoke(*command, *few, "--preset", "fast")
    assert said(preset) == "few: its JSON over the preset 'fast' for audio-visual models"
    own = invoke(*command, "--config", 'a={"preset": "safe"}')
    assert said(own) == "a: its JSON"
    assert said(invoke(*command, "-m", "dense")) == "none, for dense is all that runs"


def test_options_that_no_setting_takes_are_refused(
    fail: Callable[..., str], checkpoint: Path, tmp_path: Path
) -> None:
    FastAVConfig(method="divprune").save_pretrained(tmp_path)
    command = ("eval", "--model", checkpoint)
    mine, quarter = ("--config", f"mine={tmp_path}"), ("--config", f"quarter={QUARTER}")
    for given, name in (
        (("--preset", "fast"), "--preset"),
        (("--keep-ratio", 0.9), "--keep-ratio"),
        (("--rule", "all"), "--rule"),
        (("--set", "global_layer=3"), "--set global_layer"),
        (("--config", tmp_path), f"--config {tmp_path}"),
    ):
        line = fail(*command, *mine, *given)
        assert f"{name} changes no --config NAME=...: write it there" in line
    assert "--keep-ratio changes no" in fail(*command, *mine, *quarter, "--keep-ratio", 0.9)
    both = ("--keep-ratio", 0.9, "--audio-keep-ratio", 0.9)
    assert "--keep-ratio and --audio-keep-ratio change no" in fail(*command, *quarter, *both)
    assert "--rule changes nothing where dense" in fail(*command, "-m", "dense", "--rule", "all")


def test_known_names_of_a_setting_in_json(fail: Callable[..., str], checkpoint: Path) -> None:
    line = fail("eval", "--model", checkpoint, "--config", 'a={"methd": 1}')
    assert "Did you mean 'method'? Known: method, " in line
