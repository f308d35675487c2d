from __future__ import annotations

import configparser
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from fastav_plugin import FastAVConfig
from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.cli import app
from fastav_plugin.cli.options.pruning import DEFAULT_METHODS
from fastav_plugin.cli.tables.demo import _cell, print_answers, print_verdict
from fastav_plugin.installation import install_hint
from fastav_plugin.lab.bench.record import read_record
from fastav_plugin.lab.demo.clips import DemoClip
from fastav_plugin.lab.demo.own_clip import KNOWN
from fastav_plugin.lab.demo.picture import conclusion, make_stages
from fastav_plugin.lab.demo.run import Asked, Demo, run_demo, steps
from fastav_plugin.lab.testbed.model import MODEL_PATH, build_model, build_processor
from fastav_plugin.lab.testbed.samples import SAMPLES
from tests.support.checkpoints import save_llava

Invoke = Callable[..., Result]
Fail = Callable[..., str]
COLOUR = ("--question", "Which colour is the circle?")
FEW = ("--repeats", 1)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """What `fastav demo` prints with the shipped model, and its folder."""
    if not (MODEL_PATH / "model.safetensors").exists():
        pytest.skip("the trained model is not part of this checkout")
    output = tmp_path_factory.mktemp("demo") / "made"
    arguments = ["demo", "--output", str(output), "--repeats", "1"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result, output


def test_the_trained_model_answers(shown: tuple[Result, Path]) -> None:
    found = json.loads((shown[1] / "report.json").read_text())
    assert found["judged_by"] == "right answer"
    asked = [question for sample in SAMPLES for question in sample.questions()]
    assert [row["question"] for row in found["questions"]] == [one.text for one in asked]
    assert [row["right"] for row in found["questions"]] == [one.answer for one in asked]
    dense, *pruned = found["totals"]
    assert [total["method"] for total in pruned] == list(DEFAULT_METHODS)
    assert dense["flops_ratio"] == 1
    assert dense["right"] >= len(asked) - 1
    for total in pruned:
        assert total["right"] >= 0.75 * len(asked)
        assert total["flops_ratio"] < 0.95
        assert total["kv_bytes"] < dense["kv_bytes"]
        assert total["tokens_per_layer"][-1] < dense["tokens_per_layer"][-1]


def test_every_answer_is_judged(shown: tuple[Result, Path]) -> None:
    found = json.loads((shown[1] / "report.json").read_text())
    for index, total in enumerate(found["totals"]):
        own = [(row["right"], row["outcomes"][index]) for row in found["questions"]]
        assert all(one["is_right"] == (one["answer"].split()[0] == right) for right, one in own)
        assert total["right"] == sum(one["is_right"] for _, one in own)
        assert all(one["method"] == total["method"] for _, one in own)


def test_the_model_and_the_clips_are_shipped() -> None:
    parser = configparser.ConfigParser()
    parser.read(Path(__file__).parents[2] / "setup.cfg")
    shipped = parser["options.package_data"]["fastav_plugin.lab.testbed"].split()
    assert shipped == ["model/*", "clips/*.mp4"]


def test_the_tables(shown: tuple[Result, Path]) -> None:
    lines = shown[0].stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "✓ yes" in shown[0].stdout
    for sample in SAMPLES:
        assert any(line.strip() == sample.path.name for line in lines)
    cut = FastAVConfig.from_pretrained(MODEL_PATH).global_layer
    assert any(f"layer {cut}" in line for line in lines)
    (verdict,) = [number for number, line in enumerate(lines) if line.startswith("Right: dense 1")]
    said = " ".join(lines[verdict:])
    assert all(f"{method} " in said for method in ("dense", *DEFAULT_METHODS))
    (header,) = [line for line in lines if line.startswith("method ")]
    assert header.split()[-4:] == ["decoder", "prefill", "KV", "cache"]
    assert "not what a 7B model would answer" in shown[0].stderr


def test_the_time_in_the_decoder_is_part_of_the_prefill(shown: tuple[Result, Path]) -> None:
    found = json.loads((shown[1] / "report.json").read_text())
    outcomes = [outcome for row in found["questions"] for outcome in row["outcomes"]]
    for outcome in outcomes:
        pairs = zip(outcome["decoder_seconds_all"], outcome["prefill_seconds_all"], strict=True)
        assert all(0 < decoder < whole for decoder, whole in pairs)
    assert all(0 < total["decoder_seconds"] < total["prefill_seconds"] for total in found["totals"])


def test_what_a_7b_decoder_took_is_said_with_its_command(shown: tuple[Result, Path]) -> None:
    said = " ".join(shown[0].stdout.replace(" \\\n", " ").split())
    record = read_record()
    assert record["command"] in said
    assert json.loads((shown[1] / "report.json").read_text())["at_7b_shape"] == record
    for case in record["cases"]:
        assert f"{case['median_seconds']:.2f} s" in said
    assert "676 video, 1,496 audio and 50 text tokens; AMD EPYC, threads: 2" in said


def test_a_model_that_the_prompts_are_not_made_for(fail: Fail, tmp_path: Path) -> None:
    save_llava(tmp_path / "llava")
    line = fail("demo", "--model", tmp_path / "llava", "--output", tmp_path / "made")
    assert "The testbed's prompts are made for a Qwen2_5OmniProcessor, got LlavaProcessor." in line
    assert not (tmp_path / "made").exists()


def test_the_pictures_grey_what_was_dropped(shown: tuple[Result, Path]) -> None:
    for sample in SAMPLES:
        with av.open(str(shown[1] / f"{sample.name}.png")) as container:
            picture = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
        assert picture.shape[1] > 1000
        colourful = (picture.max(axis=2) - picture.min(axis=2)) > 30
        halves = np.array_split(colourful[150:], 2)
        assert halves[0].sum() > 1.2 * halves[1].sum() > 0


def test_a_clip_of_ones_own(
    invoke_json: Callable[..., Any], checkpoint: Path, clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    FastAVConfig(visual_keep_ratio=0.25, audio_keep_ratio=0.5).save_pretrained(folder)
    arguments = ("--model", folder, "--video", clip, *COLOUR, *FEW, "--output", tmp_path / "made")
    found = invoke_json("demo", *arguments, "--keep-ratio", 0.75)
    assert found["judged_by"] == "dense answer"
    assert KNOWN in found["notes"]
    assert any("lasts 2 s; the model knows clips of 8" in text for text in found["notes"])
    assert found["settings"]["divprune"]["visual_keep_ratio"] == 0.75
    assert found["settings"]["divprune"]["audio_keep_ratio"] == 0.5
    (row,) = found["questions"]
    assert (row["clip"], row["right"]) == ("clip.mp4", None)
    for outcome in row["outcomes"]:
        assert outcome["is_as_dense"] == (outcome["answer"] == row["outcomes"][0]["answer"])
    halved, whole = (row["outcomes"][i]["modality_per_layer"]["audio"][0] for i in (2, 0))
    assert halved * 2 == whole
    assert found["files"] == ["report.json", "clip.png"]
    assert (tmp_path / "made" / "clip.png").exists()


def test_a_clip_that_is_too_short_to_cut(
    invoke: Invoke, checkpoint: Path, clip: Path, tmp_path: Path
) -> None:
    arguments = ("--model", checkpoint, "--video", clip, *COLOUR, *FEW, "--output", tmp_path)
    short = ("--method", "divprune", "--set", "min_media_tokens=1000")
    result = invoke("demo", *arguments, *short)
    assert result.exit_code == 0, result.output
    assert "divprune: nothing was cut, because" in result.stderr
    assert "As dense: divprune 1 of 1" in result.stdout


def test_dense_alone_draws_nothing(
    invoke: Invoke, checkpoint: Path, clip: Path, tmp_path: Path
) -> None:
    arguments = ("--model", checkpoint, "--video", clip, *COLOUR, *FEW, "--output", tmp_path)
    assert invoke("demo", *arguments, "--method", "dense").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def _asked(right: str | None, *answers: str) -> Asked:
    names = ("dense", "fastav", "divprune")
    outcomes = [
        Outcome(name, answer, [9, 9], seconds=[1.0], in_decoder=[0.5])
        for name, answer in zip(names, answers, strict=False)
    ]
    for outcome in outcomes:
        outcome.macs = 5
    return Asked("a.mp4", "Which sound is heard?", right, outcomes)


def test_right_and_wrong_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    demo = Demo([_asked("hum", "hum", "hiss", "hum yes")], {}, 1, [], [])
    print_answers(demo)
    print_verdict(demo)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("✓ hum", "✗ hiss", "✓ hum yes"))
    assert "Right: dense 1 of 1, fastav 0 of 1, divprune 1 of 1" in printed
    own = Demo([_asked(None, "hum", "hiss", "hum")], {}, 1, [], [])
    print_answers(own)
    print_verdict(own)
    printed = capsys.readouterr().out
    assert all(text in printed for text in (" hum ", "≠ hiss", "= hum"))
    assert "As dense: fastav 0 of 1, divprune 1 of 1" in printed


@pytest.mark.parametrize(
    ("right", "marks"), [("hum", ["+ hum", "x hiss"]), (None, ["hum", "! hiss"])]
)
def test_marks_survive_an_ascii_terminal(right: str | None, marks: list[str]) -> None:
    console = Console(file=TextIOWrapper(BytesIO(), encoding="ascii"))
    asked = _asked(right, "hum", "hiss")
    assert [_cell(console, asked, one).plain for one in asked.outcomes] == marks


def test_a_missing_model_is_one_line_with_the_remedy(
    fail: Fail, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fastav_plugin.lab.testbed.model.MODEL_PATH", tmp_path)
    line = fail("demo", "--output", tmp_path / "made")
    assert "not part of this installation" in line
    assert "fastav_plugin.lab.testbed.training.train" in line
    assert not (tmp_path / "made").exists()


def test_a_missing_clip_is_one_line_with_the_remedy(
    fail: Fail, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fastav_plugin.lab.testbed.samples.CLIPS_PATH", tmp_path)
    line = fail("demo", "--model", checkpoint, "--output", tmp_path)
    assert "'matching.mp4' is not part of this installation" in line
    assert "--video" in line


def test_questions_that_are_refused(fail: Fail, checkpoint: Path, clip: Path) -> None:
    arguments = ("demo", "--model", checkpoint, "--video", clip, "--question")
    line = fail(*arguments, "Which colour is the dog?")
    assert "does not know the word 'dog'" in line
    assert KNOWN in line
    line = fail(*arguments, "Is the red circle visible?")
    assert "never asked questions like 'Is the red circle visible?'" in line
    line = fail("demo", "--model", checkpoint, "--question", "Which colour is the dog?")
    assert "does not know the word 'dog'" in line


def test_a_question_about_the_shipped_clips(
    invoke_json: Callable[..., Any], fail: Fail, checkpoint: Path, tmp_path: Path
) -> None:
    arguments = ("demo", "--model", checkpoint, *COLOUR, *FEW, "--method", "divprune")
    found = invoke_json(*arguments, "--output", tmp_path / "made")
    assert [row["clip"] for row in found["questions"]] == [one.path.name for one in SAMPLES]
    assert {row["question"] for row in found["questions"]} == {COLOUR[1]}
    assert found["judged_by"] == "dense answer"
    (tmp_path / "file").touch()
    assert "is a file" in fail(*arguments, "--output", tmp_path / "file")


def test_a_file_that_is_no_clip(fail: Fail, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "noise.mp4"
    path.write_bytes(b"noise" * 100)
    line = fail("demo", "--model", checkpoint, "--video", path)
    assert "Cannot read the media file" in line


@pytest.mark.parametrize(("module", "extra"), [("av", "media"), ("matplotlib.figure", "viz")])
@pytest.mark.parametrize("own", [False, True])
def test_a_missing_extra_is_one_line_with_the_remedy(
    fail: Fail,
    checkpoint: Path,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    module: str,
    extra: str,
    own: bool,
) -> None:
    monkeypatch.setattr("fastav_plugin.lab.demo.clips.SAMPLES", SAMPLES[:1])
    monkeypatch.delitem(sys.modules, "fastav_plugin.lab.testbed.media", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    arguments = ("--video", clip, *COLOUR) if own else ()
    line = fail("demo", "--model", checkpoint, "--output", tmp_path, *FEW, *arguments)
    assert line.endswith(install_hint(extra))


def test_steps_are_counted_and_stages_drop(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3), np.uint8)
    waveform = np.zeros(4 * 16_000, np.float32)
    clips = [DemoClip("a b.mp4", frames, waveform, [("Which sound is heard?", "hum")])]
    model = build_model()
    rule = {"video": "first 2 frames", "audio": "first 30 tokens"}
    config = FastAVConfig.for_model(model, method="fastav+divprune", global_rule=rule)
    ticks: list[str] = []
    demo = run_demo(
        model, build_processor(), clips, [config], tmp_path, repeats=1, tick=ticks.append
    )
    assert len(ticks) == steps(clips, 1, 1)
    assert demo.files == [tmp_path / "report.json", tmp_path / "a_b.png"]
    dense, pruned = demo.asked[0].outcomes
    stages = make_stages(pruned, demo.cut, (4, 4, 4))
    assert [stage.title for stage in stages] == ["Prompt", "Entrance", "Global cut", "Last layer"]
    layers = len(pruned.macs_per_layer)
    places = [(0, demo.cut), (demo.cut, layers - 1), (layers - 1, layers)]
    for stage, (first, end) in zip(stages[1:], places, strict=True):
        share = sum(pruned.macs_per_layer[first:end]) / sum(dense.macs_per_layer[first:end])
        assert stage.cost.endswith(f": {100 * share:.0f} % of dense FLOPs")
    said = conclusion(pruned, pruned, stages)
    assert said.startswith(f"All that layer 7 sees of the clip: {stages[-1].count} of 164 tokens.")
    assert said.endswith(f"The answer stays “{pruned.answer}”.")
    other = replace(pruned, answer="x")
    assert conclusion(other, dense, stages).endswith("The answer becomes “x”.")
