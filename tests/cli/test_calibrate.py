"""fastav calibrate on real files, and --calibration wherever pruning is configured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fastav_plugin.calibration_file import Calibration, read_calibration
from fastav_plugin.cli import app
from fastav_plugin.cli.tables.calibration import print_calibration
from fastav_plugin.lab.testbed.media import write_clip
from fastav_plugin.lab.testbed.model import build_model, build_processor
from fastav_plugin.lab.testbed.world import Difficulty, sample_clip

#: Few settings, all of which pass.
SMALL = (
    *("--layer", 4, "--threshold", 0.5, "--drop-ratio", 0.2, "--max-kl", 10),
    *("--set", "min_media_tokens=1"),
)
QUESTION = "Which sound is heard?"


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of clips with a file of questions, the last of which is about nothing."""
    folder = tmp_path_factory.mktemp("clips")
    rows: list[dict[str, str]] = []
    for seed in (1, 2):
        write_clip(folder / f"{seed}.mp4", sample_clip(seed, Difficulty(2)))
        rows.append({"video": f"{seed}.mp4", "question": QUESTION})
    rows.append({"question": QUESTION})
    (folder / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def calibrated(
    checkpoint: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """A calibration file, and what its command printed."""
    path = tmp_path_factory.mktemp("calibrated") / "deep" / "found.safetensors"
    arguments = ("--model", checkpoint, "--data", clips, "--output", path, *SMALL, "--json")
    result = CliRunner().invoke(app, ["calibrate", *(str(argument) for argument in arguments)])
    assert result.exit_code == 1, result.output
    return path, json.loads(result.stdout)


def test_what_is_printed_is_what_the_file_says(calibrated: tuple[Path, Any]) -> None:
    path, printed = calibrated
    facts = read_calibration(path).facts
    assert printed["file"] == str(path)
    assert printed["settings"] == facts["settings"]
    assert printed["candidates"] == facts["candidates"]
    assert printed["samples"]["rule"] + printed["samples"]["fidelity"] == 2
    assert "weights" not in printed["model"]
    (fault,) = printed["left_out"]
    assert fault["place"] == "line 3"
    assert not path.with_name(f"{path.name}.partial").exists()


def test_the_table(
    invoke: Callable[..., Result], calibrated: tuple[Path, Any], checkpoint: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    write_clip(clip, sample_clip(1, Difficulty(2)))
    (tmp_path / "questions.txt").write_text(f"{QUESTION}\n\nIs the circle visible?\n")
    output = tmp_path / "one.safetensors"
    result = invoke(
        "calibrate", "--model", checkpoint, "--data", tmp_path, "--output", output, *SMALL
    )
    assert result.exit_code == 0, result.output
    rules = "Rules for a cut on entering layer 4"
    for text in ("on entering", "layer 7", rules, "95 %", "agreement"):
        assert text in result.stdout
    assert "2 of the same (too few to split) measured them" in result.stderr
    assert "So few samples say next to nothing about other prompts" in result.stderr
    assert "Too few media for a check" in " ".join(result.stderr.split())
    assert f"FastAVConfig(calibration='{output}')" in " ".join(result.stderr.split())


def test_the_table_tells_what_the_check_measured(
    calibrated: tuple[Path, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_calibration(calibrated[0])
    check = {**found.facts["chosen"], "prompts": 30, "kl": 0.0123, "kl_high": 0.0456, "rejected": 2}
    samples = {**found.facts["samples"], "check": 30}
    facts = {**found.facts, "check": check, "samples": samples}
    print_calibration(Calibration(found.path, facts))
    told = " ".join(capsys.readouterr().err.split())
    assert "Checked on 30 samples apart from those it was chosen on: mean KL 0.0123" in told
    assert "0.0456" in told
    assert "2 cheaper ones, within the limit before, failed there" in told
    assert "fewer than about 10.0 % of prompts" in told


def test_every_command_takes_it(
    invoke_json: Callable[..., Any],
    calibrated: tuple[Path, Any],
    checkpoint: Path,
    clips: Path,
) -> None:
    path, printed = calibrated
    settings = printed["settings"]
    cut = settings["global_layer"]
    given = ("--calibration", path)
    asked = ("--video", clips / "1.mp4", "--question", QUESTION)
    one = ("--max-new-tokens", 1)
    _, generated = invoke_json("generate", "--model", checkpoint, *asked, *one, *given)["outcomes"]
    counts = generated["tokens_per_layer"]
    assert counts[cut] < counts[cut - 1] == counts[0]
    _, planned = invoke_json("inspect", checkpoint, *given)["plans"]
    assert planned["method"] == "fastav"
    assert planned["tokens_per_layer"][cut] < planned["tokens_per_layer"][cut - 1]
    evaluated = invoke_json("eval", "--model", checkpoint, *given, "--questions", 1, "--limit", 1)
    fields = evaluated["settings"]["fastav"]
    assert {name: fields[name] for name in settings} == settings
    named = json.dumps({"calibration": str(path)})
    both = ("--config", f"mine={named}", "--set", "global_rule=all", "-m", "divprune")
    again = invoke_json("eval", "--model", checkpoint, *both, "--questions", 1, "--limit", 1)[
        "settings"
    ]["mine"]
    assert again["global_rule"] == settings["global_rule"]


def test_a_calibration_goes_before_a_folder_s_own_settings(
    invoke_json: Callable[..., Any], calibrated: tuple[Path, Any], tmp_path: Path
) -> None:
    path, printed = calibrated
    build_model().save_pretrained(tmp_path)
    saved = {"global_rule": "all", "global_layer": 2, "visual_keep_ratio": 0.3}
    (tmp_path / "fastav_config.json").write_text(json.dumps(saved))
    build_processor().save_pretrained(tmp_path)
    found = invoke_json(
        *("eval", "--model", tmp_path, "--calibration", path, "--drop-ratio", 0.5),
        *("--questions", 1, "--limit", 1),
    )
    fields = found["settings"]["fastav"]
    assert fields["global_rule"] == printed["settings"]["global_rule"]
    assert fields["global_layer"] == printed["settings"]["global_layer"]
    assert (fields["visual_keep_ratio"], fields["fine_drop_ratio"]) == (0.3, 0.5)


def test_a_file_for_another_model(
    invoke: Callable[..., Result],
    fail: Callable[..., str],
    calibrated: tuple[Path, Any],
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    path, _ = calibrated
    config = build_model().config
    config.text_config.hidden_size = 96  # type: ignore[union-attr]
    config.save_pretrained(tmp_path)
    refused = invoke("inspect", tmp_path, "--calibration", path)
    assert refused.exit_code == 2
    reason = "made for another model: its hidden_size is 192, this model's 96"
    assert all(reason in line for line in refused.stderr.splitlines())
    weights = checkpoint / "model.safetensors"
    assert "is not a calibration file" in fail("inspect", checkpoint, "--calibration", weights)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "divprune"), "makes no global cut"),
        (("--sound", "loud"), "`--sound` must be one of"),
        (("--set", "global_layer=3"), "global_layer cannot be given"),
        (("--set", "fine=3"), "Unknown setting 'fine'"),
        (("--layer", 9), "`layers` must lie in [1, 7]"),
    ],
)
def test_options_that_make_no_sense(
    fail: Callable[..., str],
    checkpoint: Path,
    clips: Path,
    tmp_path: Path,
    arguments: tuple[Any, ...],
    message: str,
) -> None:
    output = ("--output", tmp_path / "x.safetensors", "--samples", 1)
    assert message in fail("calibrate", "--model", checkpoint, "--data", clips, *output, *arguments)


def test_data_that_is_none(fail: Callable[..., str], checkpoint: Path, tmp_path: Path) -> None:
    output = ("--output", tmp_path / "x.safetensors")
    assert "with `--data`" in fail("calibrate", "--model", checkpoint, *output)
    empty = tmp_path / "empty"
    empty.mkdir()
    command = ("calibrate", "--model", checkpoint, *output, "--data")
    assert "holds none of questions.jsonl" in fail(*command, empty)
    (empty / "questions.jsonl").write_text('{"video": "gone.mp4", "question": "Why?"}\n')
    assert "'gone.mp4' is not in" in fail(*command, empty)


@pytest.mark.slow
def test_killed_at_any_time(tmp_path: Path) -> None:
    """The shipped model on clips made for it; SIGKILL after every prompt or so."""
    options = ["--samples", "4", *(str(option) for option in SMALL)]
    command = [sys.executable, "-c", "from fastav_plugin.cli import main; main()", "calibrate"]
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    subprocess.run([*command, "--output", str(whole), *options], check=True, capture_output=True)
    kills = 0
    while not killed.exists():
        process = subprocess.Popen(
            [*command, "--output", str(killed), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        partial = killed.with_name(f"{killed.name}.partial")
        before = partial.stat().st_mtime_ns if partial.exists() else 0
        while process.poll() is None and kills < 3:
            if partial.exists() and partial.stat().st_mtime_ns != before:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        process.wait()
    assert kills == 3
    assert killed.read_bytes() == whole.read_bytes()
