"""One policy for damaged media in every command, on files that are really broken."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from fastav_plugin.cli.progress import progress
from fastav_plugin.lab.testbed.media import write_clip, write_media
from fastav_plugin.lab.testbed.world import Difficulty, sample_clip
from tests.cli.test_calibrate import SMALL
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.video_salmonn2.published import write_folder

Invoke = Callable[..., Result]
Fail = Callable[..., str]

QUESTION = "Which sound is heard?"
#: Lines of the data file; "broken" ones hold what no reader can use.
LINES = (
    {"video": "1.mp4"},
    {"video": "cut.mp4"},
    "{not JSON",
    {"video": "2.mp4"},
    {"video": "text.mp4"},
    {"image": "half.jpg"},
    {"image": "whole.jpg"},
    {"video": "gone.mp4"},
    {"video": "3.mp4"},
)
#: Where the lines stand that are left out, and a part of the reason.
LEFT_OUT = {
    "line 2": "cut.mp4': it is cut off: it has ",
    "line 3": "Not valid JSON",
    "line 5": "text.mp4': it holds text, no media",
    "line 6": "half.jpg': it is cut off",
    "line 8": "'gone.mp4' is not in",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips and pictures, whole and damaged, with files of questions about them."""
    folder = tmp_path_factory.mktemp("damaged")
    for seed in (1, 2, 3):
        write_clip(folder / f"{seed}.mp4", sample_clip(seed, Difficulty(2)))
    whole = (folder / "1.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("This is no film.\n" * 40)
    pixels = np.random.default_rng(0).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    asked = {"question": QUESTION, "answer": "hum"}
    lines = [line if isinstance(line, str) else json.dumps({**line, **asked}) for line in LINES]
    good = [line for number, line in enumerate(lines, 1) if f"line {number}" not in LEFT_OUT]
    bad = [line for number, line in enumerate(lines, 1) if number in (2, 5)]
    for name, own in (("all", lines), ("good", good), ("bad", bad), ("some", lines[:2])):
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in own))
    return folder


Command = Callable[..., tuple[Any, ...]]


@pytest.fixture
def evaluating(checkpoint: Path) -> Command:
    """The arguments of `fastav eval` about a file of questions."""
    options = ("--model", checkpoint, "--method", "divprune", "--max-new-tokens", 2)
    return lambda data, *more: ("eval", "--data", data, *options, *more)


@pytest.fixture
def calibrating(checkpoint: Path, tmp_path: Path) -> Command:
    """The arguments of `fastav calibrate` about a file of questions."""
    options = ("--model", checkpoint, "--output", tmp_path / "found.safetensors", *SMALL)
    return lambda data, *more: ("calibrate", "--data", data, *options, *more)


@pytest.fixture(params=["evaluating", "calibrating"])
def command(request: pytest.FixtureRequest) -> Command:
    """Either of them."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def ended(result: Result) -> Result:
    """The result of a command that left something out."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    return result


def figures(found: dict[str, Any]) -> Any:
    """What a command measured, without times and the file that it is about."""
    if "candidates" in found:
        measured = ("candidates", "chosen", "check", "profile", "settings")
        return {name: found[name] for name in measured}
    for part in found["sets"]:
        for row in part["rows"]:
            del row["prefill_seconds"]
    return found["sets"]


def test_what_is_damaged_is_named_and_left_out(
    invoke: Invoke, invoke_json: Callable[..., Any], command: Command, folder: Path
) -> None:
    result = ended(invoke(*command(folder / "all.jsonl", "--json")))
    found = json.loads(result.stdout)
    assert [fault["place"] for fault in found["left_out"]] == list(LEFT_OUT)
    for fault in found["left_out"]:
        assert LEFT_OUT[fault["place"]] in fault["reason"]
    assert figures(found) == figures(invoke_json(*command(folder / "good.jsonl")))


def test_the_summary_counts_what_is_left_out(
    invoke: Invoke, command: Command, folder: Path
) -> None:
    result = ended(invoke(*command(folder / "all.jsonl")))
    shown = " ".join(result.stderr.split())
    for place, reason in LEFT_OUT.items():
        assert f": left out, {place}: " in shown
        assert reason in shown
    assert "5 of 9 samples were left out: line 2; line 3; line 5; line 6; line 8." in shown
    assert "left out" not in result.stdout
    assert "FLOPs" in result.stdout


def test_one_option_uses_what_can_be_decoded(
    invoke: Invoke, command: Command, folder: Path
) -> None:
    result = ended(invoke(*command(folder / "all.jsonl", "--allow-damaged", "--json")))
    places = {fault["place"] for fault in json.loads(result.stdout)["left_out"]}
    assert "line 6" not in places
    assert {"line 3", "line 5", "line 8"} <= places


def test_where_nothing_is_left_it_is_an_error(fail: Fail, command: Command, folder: Path) -> None:
    line = fail(*command(folder / "bad.jsonl"))
    assert "No sample is valid. The first: line 1: Cannot read the media file" in line
    assert "cut.mp4" in line


def test_a_strict_evaluation_ends_with_the_first(
    invoke: Invoke, evaluating: Command, folder: Path
) -> None:
    strict = invoke(*evaluating(folder / "all.jsonl", "--strict"))
    assert strict.exit_code == 2
    assert "2 samples are invalid. The first: line 3: Not valid JSON" in strict.stderr
    strict = invoke(*evaluating(folder / "some.jsonl", "--strict"))
    assert strict.exit_code == 2
    assert "1 sample is invalid. The first: line 2: Cannot read the media" in strict.stderr


def test_a_resumed_evaluation_reads_again_what_was_left_out(
    invoke: Invoke, evaluating: Command, folder: Path, tmp_path: Path
) -> None:
    call = evaluating(folder / "all.jsonl", "--resume", tmp_path / "answers.jsonl")
    first, again = (json.loads(ended(invoke(*call, "--json")).stdout) for _ in range(2))
    assert first["left_out"] == again["left_out"]
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 1 + 4
    refused = invoke(*call, "--allow-damaged")
    assert refused.exit_code == 2
    assert "allow_damaged differ" in refused.stderr


@pytest.mark.parametrize("method", ["generate", "demo", "visualize"])
def test_a_command_about_one_file_says_the_option(
    invoke: Invoke, fail: Fail, checkpoint: Path, folder: Path, tmp_path: Path, method: str
) -> None:
    cut = tmp_path / "cut.mkv"
    write_half(cut, folder / "1.mp4")
    asked = ("--model", checkpoint, "--question", QUESTION)
    call = {
        "generate": ("generate", *asked, "--max-new-tokens", 1),
        "demo": ("demo", *asked, "--repeats", 1, "--output", tmp_path / "made"),
        "visualize": ("visualize", "layers", *asked, "--output", tmp_path / "layers.png"),
    }[method]
    line = fail(*call, "--video", cut)
    assert "it is cut off" in line
    assert "`--allow-damaged`" in line
    result = invoke(*call, "--video", cut, "--allow-damaged")
    assert result.exit_code == 0, result.output


def write_half(path: Path, clip: Path) -> None:
    """The first half of a clip in Matroska, which can be decoded as far as it goes."""
    whole = path.with_name("whole.mkv")
    with av.open(str(clip)) as source, av.open(str(whole), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    content = whole.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("name", list(tiny.CONFIGS))
@pytest.mark.parametrize("own", ["eval", pytest.param("calibrate", marks=pytest.mark.slow)])
def test_models_of_this_package_read_files_themselves(
    invoke: Invoke, folder: Path, tmp_path: Path, name: str, own: str
) -> None:
    model = write_folder(tmp_path / "published", name, tiny.build(name))
    tiny.tokenizer().save_pretrained(model)
    rows = [{"video": file, "question": "Why?", "answer": "What?"} for file in ("1.mp4", "cut.mp4")]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    options = (
        ("--max-new-tokens", 1) if own == "eval" else ("--output", tmp_path / "x", "--layer", 3)
    )
    call = (own, "--data", data, "--media", folder, "--model", model, *options)
    call += ("--set", "min_media_tokens=1", *(("--max-kl", 10) if own == "calibrate" else ()))
    result = ended(invoke(*call, "--json"))
    (fault,) = json.loads(result.stdout)["left_out"]
    assert fault["place"] == "line 2"
    assert "cut.mp4" in fault["reason"]


def test_remarks_of_the_reader_are_notes(
    invoke: Invoke, checkpoint: Path, calibrating: Command, folder: Path, tmp_path: Path
) -> None:
    silent = tmp_path / "silent.mp4"
    write_media(silent, np.zeros((16, 64, 64, 3), np.uint8), np.zeros(32_000, np.float32), 8)
    call = ("generate", "--model", checkpoint, "--video", silent, "--question", QUESTION)
    result = invoke(*call, "--max-new-tokens", 1, "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)
    assert result.stderr.count("silent.mp4': ") == 1
    rows = [{"video": name, "question": QUESTION} for name in (str(silent), "1.mp4", "2.mp4")]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    # Every file is read several times.
    result = invoke(*calibrating(data, "--media", folder, "--json"))
    assert result.exit_code == 0, result.output
    assert result.stderr.count("silent.mp4': ") == 1


def test_many_remarks_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    reader = logging.getLogger("fastav_plugin.media.tracks")
    with progress("work", 1):
        for number in range(7):
            reader.warning("'%d.mp4': its sound is silent.", number)
            reader.warning("'%d.mp4': its sound is silent.", number)
    reader.warning("Nobody works.")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line for line in shown.err.splitlines() if "silent" in line] == [
        f"fastav: '{number}.mp4': its sound is silent." for number in range(5)
    ]
    assert "... and 2 more." in shown.err
