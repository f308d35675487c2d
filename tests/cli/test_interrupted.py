"""Ctrl-C and SIGTERM in real processes: one line that says what is kept, and the status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.samples import CLIPS_PATH
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.video_salmonn2.published import write_folder
from tests.support.programs import with_checkout

CLIP = str(CLIPS_PATH / "single.mp4")
MODEL = ("--model", str(MODEL_PATH))
COMMAND = "from fastav_plugin.cli import main; main()"
#: A process in which a step of the work says that it begins, and takes a minute longer.
SLOW = """
import logging, time
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # before it is imported, as main()
import {module} as module
stock = module.{name}
def slow(*args, **kwargs):
    print("WORKING", flush=True)
    time.sleep(60)
    return stock(*args, **kwargs)
module.{name} = slow
"""
#: A process that gets Ctrl-C at one of its first imports.
EARLY = """
import signal, sys
class Finder:
    def find_spec(self, name, *rest):
        if name == "fastav_plugin.cli.bench":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
PROGRESS = re.compile(r"[a-z ]+: (\d+ of \d+ .*, )?\d+:\d\d")


def start(folder: Path, arguments: tuple[str, ...], before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", before + COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": with_checkout(), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send a signal: the exit status, and what is on stderr but for progress."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if not PROGRESS.match(line)]
    lines = [line for line in lines if not line.startswith("Settings: ")]
    return process.returncode, "\n".join(lines)


def wait_for(process: subprocess.Popen[str], seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not seen():
        assert process.poll() is None, process.communicate()
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGINT, 130, "Interrupted"),
        (signal.SIGTERM, -signal.SIGTERM, "Terminated"),
    ],
    ids=["SIGINT", "SIGTERM"],
)
def test_calibrate_keeps_what_it_measured(
    tmp_path: Path, number: signal.Signals, status: int, word: str
) -> None:
    process = start(tmp_path, ("calibrate", "--output", "cal.safetensors"))
    kept = tmp_path / "cal.safetensors.partial"
    wait_for(process, kept.exists)
    assert stop(process, number) == (
        status,
        f"{word}. cal.safetensors.partial is kept: the same command goes on from it.",
    )
    assert sorted(tmp_path.iterdir()) == [kept]


def test_eval_keeps_its_answers(tmp_path: Path) -> None:
    process = start(tmp_path, ("eval", "--questions", "50", "--resume", "a.jsonl"))
    answers = tmp_path / "a.jsonl"
    wait_for(process, lambda: answers.exists() and answers.read_text().count("\n") > 2)
    status, line = stop(process, signal.SIGINT)
    assert status == 130
    # The first line of the file is about the evaluation.
    count = answers.read_text().count("\n") - 1
    assert count < 100
    assert line == (
        f"Interrupted. a.jsonl is kept, answered questions: {count}. The same command goes on from "
        "it."
    )


@pytest.mark.slow
def test_eval_without_a_file_says_how_to_keep_answers(tmp_path: Path) -> None:
    slow = SLOW.format(module="fastav_plugin.evaluation.answers", name="run_once")
    process = start(tmp_path, ("eval", "--questions", "50"), slow)
    wait_for_word(process)
    assert stop(process, signal.SIGINT) == (
        130,
        "Interrupted. Nothing was written: give --resume FILE.jsonl to keep the answers so far.",
    )


def wait_for_word(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "WORKING\n", process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "module", "name"),
    [
        (("bench", "--shape", "tiny", "--output", "b.json"), "lab.bench.run", "run_once"),
        (("generate", *MODEL, "--question", "Why?"), "analysis.comparison", "run_once"),
        (("visualize", "layers"), "analysis.comparison", "run_once"),
        (("demo", "--video", CLIP), "analysis.comparison", "run_once"),
        (("inspect", MODEL[1]), "planning.dry_run", "plan_prefill"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_writes_its_files_at_the_end_leaves_nothing(
    tmp_path: Path, arguments: tuple[str, ...], module: str, name: str
) -> None:
    slow = SLOW.format(module=f"fastav_plugin.{module}", name=name)
    process = start(tmp_path, arguments, slow)
    wait_for_word(process)
    assert stop(process, signal.SIGINT) == (130, "Interrupted. Nothing was written.")
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_convert_leaves_no_half_folder(tmp_path: Path, number: signal.Signals) -> None:
    name = "video_salmonn2"
    write_folder(tmp_path / "published", name, tiny.build(name))
    tiny.tokenizer().save_pretrained(tmp_path / "published")
    slow = SLOW.format(module="shutil", name="move")
    process = start(tmp_path, ("convert", "published", "plain"), slow)
    wait_for_word(process)
    # All is written, and waits to be moved to its place.
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".plain")]
    status, line = stop(process, number)
    assert status in (130, -signal.SIGTERM)
    assert line.endswith(". Nothing was written.")
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_a_signal_while_libraries_are_imported(tmp_path: Path) -> None:
    process = start(tmp_path, ("generate", *MODEL, "--question", "Why?"))
    maps = Path(f"/proc/{process.pid}/maps")
    wait_for(process, lambda: "libtorch_cpu" in maps.read_text())
    assert stop(process, signal.SIGINT) == (130, "Interrupted. Nothing was written.")


def test_a_signal_while_the_command_line_is_imported(tmp_path: Path) -> None:
    process = start(tmp_path, ("generate", *MODEL, "--question", "Why?"), EARLY)
    assert process.wait(timeout=60) == 130
    assert process.communicate() == ("", "Interrupted. Nothing was written.\n")


@pytest.mark.parametrize("arguments", [("models",), ("models", "--json"), ("--help",)])
def test_a_reader_that_stops_reading_is_no_error(arguments: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        env={**os.environ, "PYTHONPATH": with_checkout()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) in (0, 1)
