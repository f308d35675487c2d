"""What every command prints in a real terminal, narrow or wide: nothing is cut or lost."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from transformers import Qwen2Config
from typer.main import get_command

from fastav_plugin.cli import app
from fastav_plugin.cli.help import PANELS
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.video_salmonn2.published import write_folder
from tests.support.terminal import Command, run_in_pipe, run_in_terminal

WIDTHS = (60, 80, 100, 140)
#: Wider than anything that is printed.
WIDE = 1000
#: A width of its own where NO_COLOR is set.
GREY = 81
ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9]+)*m")


def plain(text: str) -> str:
    return ESCAPE.sub("", text)


def words(text: str) -> Counter[str]:
    """What is printed, but for where it stands: a name and its value have a colon in a block."""
    found = [word.removesuffix(":") for word in plain(text).split() if word != "\\"]
    return Counter(found)


def widest(text: str) -> int:
    return max(map(cell_len, plain(text).splitlines()), default=0)


@pytest.fixture(scope="module")
def quick(
    checkpoint: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """A command of each kind of table that takes seconds."""
    folder = tmp_path_factory.mktemp("terminal")
    config = Qwen2Config(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28
    )
    config.architectures = ["Qwen2ForCausalLM"]
    config.save_pretrained(folder / "7b")
    published = write_folder(folder / "published", "video_salmonn2", tiny.build("video_salmonn2"))
    tiny.tokenizer().save_pretrained(published)
    scene = ("--model", checkpoint, "--video", clip, "--repeats", 1)
    rule = ("--rule", "video=all, audio=first 10 tokens")
    small = ("--text", 20, "--video", 80, "--audio", 120, "--repeats", 1, "--warm-up", 0)
    commands: dict[str, tuple[Any, ...]] = {
        "models": ("models",),
        "inspect": ("inspect", checkpoint),
        "inspect, many layers": ("inspect", folder / "7b", *rule),
        "bench": ("bench", "--shape", "tiny", *small, "--new-tokens", 2, "--threads", 1),
        "generate": ("generate", *scene, "--question", "Which sound is heard?", "-m", "divprune"),
        "demo": ("demo", *scene, "--output", folder / "demo", "--question", "Is the hum heard?"),
        "eval": ("eval", "--model", checkpoint, "--questions", 6, "-m", "fastav"),
        "convert": ("convert", published, folder / "plain"),
    }
    return {name: [str(argument) for argument in given] for name, given in commands.items()}


@pytest.fixture(scope="module")
def printed(quick: dict[str, list[str]]) -> dict[tuple[str, int], str]:
    """What each prints in each width, the same figures in all; in GREY without colours."""
    order = [(name, width) for name in quick for width in (*WIDTHS, WIDE, GREY)]
    found = run_in_terminal(
        [
            Command(quick[name], width, {"NO_COLOR": "1"} if width == GREY else {})
            for name, width in order
        ]
    )
    return dict(zip(order, found, strict=True))


def check_forms(forms: dict[int, str]) -> None:
    """Every word of the widest form is in each other, in lines that fit."""
    for width in WIDTHS:
        assert widest(forms[width]) <= width
        lost = words(forms[WIDE]) - words(forms[width])
        assert not lost, f"{lost} at {width} columns:\n{plain(forms[width])}"
        assert "…" not in forms[width]


def test_the_time_of_the_pruner_stands_with_its_share(printed: dict[tuple[str, int], str]) -> None:
    pair = r"pruner \(of prefill\): \d\S* m?s \(\d\S* %\)"
    assert re.search(pair, plain(printed["bench", 60]))


NAMES = (
    *("models", "inspect", "inspect, many layers", "bench"),
    *("generate", "demo", "eval", "convert"),
)


@pytest.mark.parametrize("name", NAMES)
def test_no_figure_and_no_answer_is_lost(printed: dict[tuple[str, int], str], name: str) -> None:
    forms = {width: printed[name, width] for width in (*WIDTHS, WIDE)}
    assert len(words(forms[WIDE])) > 8
    check_forms(forms)


@pytest.mark.parametrize("name", NAMES)
def test_colours_are_for_terminals_that_want_them(
    printed: dict[tuple[str, int], str], name: str
) -> None:
    assert COLOUR.search(printed[name, WIDE]) or name == "convert"
    assert not COLOUR.search(printed[name, GREY])
    assert words(printed[name, WIDE]) <= words(printed[name, GREY])


def test_a_pipe_of_ascii(quick: dict[str, list[str]]) -> None:
    """Lines of any length unless COLUMNS is set, marks of ASCII, and JSON that can be read."""
    question = "Größe? 你好"
    asked = [*quick["generate"], "--json"]
    asked[asked.index("--question") + 1] = question
    models, inspect, demo, generate, main, bench, narrow = run_in_pipe(
        [
            *(Command(quick[name], 0) for name in ("models", "inspect", "demo")),
            Command(asked, 0),
            Command(["--help"], 0),
            Command(["bench", "--help"], 0),
            Command(quick["models"], 0, {"COLUMNS": "60"}),
        ],
        PYTHONIOENCODING="ascii",
        LC_ALL="C",
    )
    for text in (models, inspect, demo, generate, main, bench, narrow):
        assert text.isascii()
        assert "\x1b" not in text
    assert widest(models) > 100
    assert widest(narrow) <= 60
    assert words(models) <= words(narrow)
    assert re.search(r"[=!] \w", demo)
    assert json.loads(generate)["question"] == question


def test_notes_are_whole_too(checkpoint: Path) -> None:
    """What goes to stderr is broken between words; bars are drawn over and gone in the end."""
    command = ["inspect", str(checkpoint), "-m", "adaptive", "--video", "20", "--audio", "0"]
    found = run_in_terminal([Command(command, columns) for columns in (60, 80)], notes=True)
    for columns, text in zip((60, 80), found, strict=True):
        lines = [line.rpartition("\r")[2] for line in plain(text).splitlines()]
        assert max(map(cell_len, lines)) <= columns
        said = " ".join(" ".join(lines).split())
        assert "adaptive: nothing is cut, because no prompt of the batch has" in said
        assert "adaptive: what is kept varies from prompt to prompt; these are the most." in said


def commands_of(command: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield names, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands_of(each, (*names, name))


def test_help_of_every_command() -> None:
    known = list(commands_of(get_command(app)))
    assert len(known) > 14
    order = [(names, command, width) for names, command in known for width in WIDTHS]
    found = run_in_terminal([Command([*names, "--help"], width) for names, _, width in order])
    for (names, command, width), text in zip(order, found, strict=True):
        assert widest(text) <= width, names
        assert "…" not in text, (names, width, text)
        squeezed = "".join(re.sub(r"[│╭╮╰╯─]", "", plain(text)).split())
        for option in command.params:
            said = "".join((getattr(option, "help", None) or "").split())
            assert said in squeezed, (names, width, said)
            for name in option.opts:
                assert name in plain(text) or not name.startswith("-"), (names, width, name)
        assert ("╭" in text) == (width >= PANELS or hasattr(command, "commands"))


@pytest.mark.slow
def test_the_tables_of_a_calibration(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "questions.txt").write_text("Which sound is heard?\nIs the circle visible?\n")
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    command = ["calibrate", "--model", checkpoint, "--data", tmp_path]
    command += ["--output", tmp_path / "found.safetensors", "--max-kl", 10, "--layer", 4]
    command += ["--threshold", 0.5, "--drop-ratio", 0.2, "--set", "min_media_tokens=1"]
    given = [str(argument) for argument in command]
    found = run_in_terminal([Command(given, width) for width in (*WIDTHS, WIDE)])
    check_forms(dict(zip((*WIDTHS, WIDE), found, strict=True)))


@pytest.mark.slow
def test_the_table_of_a_whole_model(clip: Path) -> None:
    given = ["bench", "--shape", "videollama2-av-tiny", "--clip", str(clip), "--frames", "4"]
    found = run_in_terminal([Command(given, width) for width in (*WIDTHS, WIDE)])
    check_forms(dict(zip((*WIDTHS, WIDE), found, strict=True)))


@pytest.mark.slow
def test_the_tables_of_the_papers(tmp_path: Path) -> None:
    given = ["eval", "--suite", "papers", "--questions", "6", "--table", "methods-fastav"]
    given += ["--resume", str(tmp_path / "answers.jsonl")]
    found = run_in_terminal([Command(given, width) for width in (*WIDTHS, WIDE)])
    check_forms(dict(zip((*WIDTHS, WIDE), found, strict=True)))
