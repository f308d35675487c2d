"""fastav eval on small files of every format, with the model that knows their questions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from fastav_plugin.evaluation.bootstrap import bootstrap_mean
from fastav_plugin.evaluation.cider import cider_d
from fastav_plugin.lab.testbed.model import MODEL_PATH
from tests.evaluation.formats.media import FILES, write_media
from tests.support.checkpoints import save_llava
from tests.support.programs import with_checkout

pytestmark = pytest.mark.skipif(
    not (MODEL_PATH / "config.json").exists(), reason="no trained model here"
)

Invoke = Callable[..., Result]
InvokeJson = Callable[..., Any]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_media(folder)
    return folder


def command(media: Path, name: str, *options: Any, method: str = "divprune") -> tuple[Any, ...]:
    model = ("--media", media, "--model", MODEL_PATH, "--method", method)
    return ("eval", "--data", FILES / name, *model, *options)


def tables(found: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows by task and setting."""
    return {part["task"]: {row["setting"]: row for row in part["rows"]} for part in found["sets"]}


def captions(answers: Path, setting: str) -> tuple[list[str], list[list[str]]]:
    """Captions that a setting gave, and the right ones, in a file of answers."""
    _, *records = map(json.loads, answers.read_text().splitlines())
    found = [record for record in records if record["question"]["rule"] == "cider-d"]
    return (
        [record["answers"][setting]["text"] for record in found],
        [record["question"]["right"] for record in found],
    )


ASK_ALONE = ("--prompt-template", "{question}")


@pytest.mark.parametrize(
    ("name", "options", "tasks"),
    [
        ("music_avqa.json", (), 4),
        ("avqa.json", ASK_ALONE, 2),
        ("avhbench.json", (), 4),
        ("videollama2.json", (), 1),
        (
            "activitynet_q.json",
            (*ASK_ALONE, "--answers", FILES / "activitynet_a.json"),
            3,
        ),
    ],
)
def test_the_model_answers_what_it_knows(
    invoke_json: InvokeJson, media: Path, name: str, options: tuple[Any, ...], tasks: int
) -> None:
    found = invoke_json(*command(media, name, *options))
    assert found["left_out"] == []
    assert len(found["sets"]) == tasks + (tasks > 1)
    for task, rows in tables(found).items():
        dense, pruned = rows["dense"], rows["divprune"]
        if task != "AV Captioning":
            assert dense["accuracy"]["mean"] == pruned["accuracy"]["mean"] == 1
            assert pruned["share_of_dense"] == 1
        assert dense["agreement"]["mean"] == dense["flops_ratio"] == 1
        assert dense["unread"] == dense["uncut"] == pruned["uncut"] == 0
        assert 0 < pruned["flops_ratio"] < 0.3
        # Keys and values of two heads of 32 numbers in 8 layers, in the checkpoint's bfloat16.
        for row in rows.values():
            assert row["kv_bytes"] == pytest.approx(row["tokens"] * 8 * 2 * 2 * 32 * 2, rel=1e-3)
            assert 1 < row["new_tokens"] < 20


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("coco_pope_adversarial.json", ["pope"]),
        ("pope_export.jsonl", ["random", "popular", "all"]),
        ("coco_captions.json", ["captions"]),
    ],
)
def test_pictures(
    invoke_json: InvokeJson, media: Path, tmp_path: Path, name: str, tasks: list[str]
) -> None:
    resume = ("--resume", tmp_path / "answers.jsonl")
    found = invoke_json(*command(media, name, "--set", "min_media_tokens=4", *resume))
    assert list(tables(found)) == tasks
    for rows in tables(found).values():
        assert rows["divprune"]["kept"]["visual"] == 0.25
        assert rows["divprune"]["uncut"] == 0
        if "cider_d" in rows["dense"]:
            texts, wanted = captions(tmp_path / "answers.jsonl", "dense")
            scores = cider_d(texts, wanted)
            assert len(scores) == 2
            assert rows["dense"]["cider_d"]["mean"] == pytest.approx(sum(scores) / 2)
            assert "accuracy" not in rows["dense"]
        else:
            assert set(rows["dense"]["binary"]) == {"precision", "recall", "f1", "yes_rate"}


def test_sound_alone_and_pictures_alone(invoke_json: InvokeJson, media: Path) -> None:
    found = tables(invoke_json(*command(media, "avhbench_training.json")))
    alone = {task: rows["dense"]["tokens"] for task, rows in found.items()}
    assert 200 < alone["AV Hallucination (Audio_only)"] < 220
    assert 128 < alone["AV Hallucination (Video_only)"] < 148
    assert 328 < alone["AV Hallucination (Audio)"] < 350
    for task in ("AV Hallucination (Audio)", "AV Hallucination (Video)", "AV Matching"):
        assert found[task]["dense"]["accuracy"]["mean"] == 1


def test_the_figures_follow_from_the_answers(
    invoke_json: InvokeJson, media: Path, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    options = ("--resume", path, "--max-new-tokens", 6, "--rule", "audio=first 10 tokens")
    found = tables(invoke_json(*command(media, "avhbench.json", *options, method="fastav")))
    header, *records = [json.loads(line) for line in path.read_text().splitlines()]
    assert header["suite"] == header["format"] == "avhbench"
    assert header["max_new_tokens"] == 6
    assert len(records) == 8
    judged = [record for record in records if record["question"]["rule"] == "yes-no"]
    for setting in ("dense", "fastav"):
        row = found["all"][setting]
        answers = [record["answers"][setting] for record in judged]
        rights = [record["question"]["right"][0] for record in judged]
        scores = [float(a["text"].lower() == r) for a, r in zip(answers, rights, strict=True)]
        assert scores == [answer["score"] for answer in answers]
        clips = [record["question"]["clip"] for record in judged]
        expected = bootstrap_mean(scores, clips)._asdict()
        assert row["accuracy"] == {"questions": 6, **expected}
        said = [a["text"].lower() == "yes" for a in answers]
        true = [right == "yes" for right in rights]
        both = sum(s and t for s, t in zip(said, true, strict=True))
        assert row["binary"]["yes_rate"] == sum(said) / 6
        assert row["binary"]["precision"] == both / sum(said)
        assert row["binary"]["recall"] == both / sum(true)
        scores = cider_d(*captions(path, setting))
        assert row["cider_d"]["mean"] == pytest.approx(sum(scores) / 2)
        kl = [record["answers"][setting]["kl"] for record in records]
        assert row["kl"]["mean"] == pytest.approx(sum(kl) / 8)
        assert max(answer["new_tokens"] for answer in answers) <= 6


def test_rows_that_cannot_be_asked(
    invoke: Invoke, fail: Callable[..., str], media: Path, tmp_path: Path
) -> None:
    rows = json.loads((FILES / "music_avqa.json").read_text())
    rows[1]["templ_values"] = "[]"
    rows[2]["video_id"] = "gone"
    rows[3] = 7
    rows[4]["video_id"] = "broken"
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "broken.mp4").write_bytes(b"no film")
    data = tmp_path / "data.json"
    data.write_text(json.dumps(rows, indent=1))
    call = command(media, str(data), "--media", folder, "--resume", tmp_path / "a.jsonl")
    result = invoke(*call, "--json")
    assert result.exit_code == 1
    left_out = {fault["place"]: fault["reason"] for fault in json.loads(result.stdout)["left_out"]}
    lines = data.read_text().split("\n")
    assert [place.split(",")[0] for place in sorted(left_out)] == ["[1]", "[2]", "[3]", "[4]"]
    for place in left_out:
        assert lines[int(place.split(" ")[-1]) - 1].strip() in {"{", "7,"}
    assert "too few" in next(r for p, r in left_out.items() if p.startswith("[1]"))
    assert "'gone'" in next(r for p, r in left_out.items() if p.startswith("[2]"))
    assert "Cannot read the media file" in next(
        r for p, r in left_out.items() if p.startswith("[4]")
    )
    shown = invoke(*call)
    assert shown.exit_code == 1
    assert shown.stderr.count(": left out, [") == 4
    assert "4 of 6 samples were left out: [1], line" in " ".join(shown.stderr.split())
    assert "all: 2 questions about 2 clips" in shown.stdout
    assert "3 samples are invalid. The first: [3]" in fail(*call, "--strict")
    del rows[1:4]
    data.write_text(json.dumps(rows))
    call = command(media, str(data), "--media", folder)
    assert "Cannot read the media file" in fail(*call, "--strict")
    data.write_text(json.dumps(rows[1:2]))
    line = fail(*call)
    assert "No sample is valid. The first: [0], line 1: Cannot read the media" in line


def test_tables(invoke: Invoke, media: Path) -> None:
    result = invoke(*command(media, "avhbench.json", "--limit", 3, "--method", "none"))
    assert result.exit_code == 0, result.output
    for word in ("AV Matching: 1 questions", "prec.", "F1", "of dense", "all: 3 questions"):
        assert word in result.stdout
    assert "none: nothing was cut in 1 questions." in result.stderr
    result = invoke(*command(media, "coco_captions.json"))
    assert result.exit_code == 0, result.output
    assert "captions: 2 questions about 2 clips" in result.stdout
    assert "CIDEr-D of its dense" in " ".join(result.stdout.split())
    assert "right" not in result.stdout


def test_more_of_a_file_goes_on_from_less(
    invoke_json: InvokeJson, fail: Callable[..., str], media: Path, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    call = command(media, "plain.jsonl", "--resume", path)
    assert invoke_json(*call, "--limit", 1)["sets"][0]["questions"] == 1
    first = path.read_text()
    assert invoke_json(*call)["sets"][-1]["questions"] == 4
    assert path.read_text().startswith(first)
    assert len(path.read_text().splitlines()) == 5
    assert "prompt differ" in fail(*call, "--prompt-template", "{question} now")
    assert "rule differ" in fail(*call, "--match", "yes-no")
    assert "fps differ" in fail(*call, "--fps", 1)
    other = command(media, "videollama2.json", "--resume", path)
    assert "data" in fail(*other)


def test_wrong_options(fail: Callable[..., str], media: Path) -> None:
    assert "give `--model`" in fail("eval", "--data", FILES / "avqa.json")
    call = command(media, "avqa.json")
    assert "Known: avqa, music-avqa" in fail(*call, "--format", "vqa")
    assert "Unknown matching rule" in fail(*call, "--match", "vqa")
    assert "template must hold {question}" in fail(*call, "--prompt-template", "{q}")
    assert "not about the file" in fail(*call, "--combinations")
    for option in (("--media", media), ("--match", "exact"), ("--strict",), ("--frames", 4)):
        assert "give `--data`" in fail("eval", *option)
    assert "`--sound` must be" in fail(*call, "--sound", "loud")
    assert "`--dtype` must be" in fail(*call, "--dtype", "int8")
    line = fail("eval", "--data", FILES / "avqa.json", "--model", MODEL_PATH)
    assert "No sample is valid. The first: [0], line 2: The video file" in line


@pytest.mark.slow
def test_a_killed_run_goes_on(invoke_json: InvokeJson, media: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / "answers.jsonl", tmp_path / "whole.jsonl"
    call = [str(part) for part in command(media, "music_avqa.json")]
    expected = invoke_json(*call, "--resume", whole)
    run = "from fastav_plugin.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", run, *call, "--resume", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": with_checkout()},
    )
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if path.exists() and path.read_bytes().count(b"\n") >= 3:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL
    done = path.read_text().splitlines()
    assert 3 <= len(done) < 7
    found = invoke_json(*call, "--resume", path)
    assert path.read_text().splitlines()[: len(done)] == done
    keys = [json.loads(line)["question"]["key"] for line in path.read_text().splitlines()[1:]]
    assert sorted(keys) == [str(key) for key in range(6)]
    for result in (expected, found):
        for part in result["sets"]:
            for row in part["rows"]:
                del row["prefill_seconds"]
    assert found == expected


def test_media_beside_the_file(invoke_json: InvokeJson, media: Path, tmp_path: Path) -> None:
    shutil.copy(media / "single.mp4", tmp_path)
    row = {"video": "single", "question": "Which sound is heard?", "answer": "click"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    found = invoke_json(
        "eval", "--data", tmp_path / "rows.jsonl", "--model", MODEL_PATH, "--method", "dense"
    )
    assert found["sets"][0]["rows"][0]["accuracy"]["mean"] == 1


def test_a_family_that_sees_pictures(invoke_json: InvokeJson, media: Path, tmp_path: Path) -> None:
    save_llava(tmp_path)
    call = ("eval", "--data", FILES / "coco_captions.json", "--media", media, "--model", tmp_path)
    found = invoke_json(*call, "--method", "divprune", "--keep-ratio", 0.5, "--max-new-tokens", 4)
    [part] = found["sets"]
    assert found["dtype"] == "auto"
    assert part["rows"][1]["kept"] == {
        "all": part["rows"][1]["kept"]["all"],
        "visual": 0.5,
        "audio": 1,
    }
    assert part["rows"][0]["new_tokens"] <= 4
