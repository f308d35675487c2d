"""What every command writes to stderr when it works: sentences of ours, no warning of a library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastav_plugin.installation import install_hint
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.samples import CLIPS_PATH
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.video_salmonn2.published import write_folder
from tests.support.programs import with_checkout

MODEL = str(MODEL_PATH)
CLIP = str(CLIPS_PATH / "single.mp4")
FASTAV = "from fastav_plugin.cli import main; main()"
LAUNCHER = "from fastav_plugin.model_overrides.tgi.launcher import main; main()"
#: How the lines begin that a command writes of itself.
OURS = (
    # Progress, where the machine is slow.
    r"[a-z ]+: (\d+ of \d+ .*, )?\d+:\d\d(:\d\d)?(, about .* left)?$",
    r"Settings: ",
    r"Written: ",
    r"Drawn: ",
)
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "help": (("--help",), ()),
    "models": (("models",), ()),
    "inspect": (("inspect", MODEL), ()),
    "generate": (
        ("generate", "--model", MODEL, "--question", "Which sound is heard?", "--video", CLIP),
        (),
    ),
    "demo": (
        ("demo", "--video", CLIP, "--question", "Which sound is heard?", "--repeats", "1"),
        (r"The model has seen ", r"Shapes: ", r"It cannot say ", r"A small model "),
    ),
    "eval": (("eval", "--questions", "1", "--method", "fastav"), (r"In %: ", r"fastav: ")),
    "bench": (
        ("bench", "--shape", "tiny", "--repeats", "1", "--methods", "fastav", "--plot", "b.png"),
        (),
    ),
    "calibrate": (
        ("calibrate", "--samples", "3", "--threshold", "0.9", "--layer", "4", "--max-kl", "9")
        + ("--drop-ratio", "0.1", "--output", "cal.safetensors"),
        (r"Samples: ", r"Checked on ", r"So few samples ", r"Chosen: ", r"Use it: "),
    ),
    "visualize attention": (("visualize", "attention"), ()),
    "visualize layers": (("visualize", "layers"), ()),
    "visualize pruning": (("visualize", "pruning"), ()),
    "convert": (("convert", "published", "plain"), ()),
}


def run(code: str, arguments: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": with_checkout(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def strange(errors: str, ours: tuple[str, ...]) -> list[str]:
    """The lines that are not ours."""
    return [
        line
        for line in errors.splitlines()
        if line and not any(re.match(start, line) for start in (*OURS, *ours))
    ]


#: Without a long time.
QUICK = ("help", "models", "inspect", "generate")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS],
)
def test_a_command_that_works_writes_lines_of_ours_alone(name: str, tmp_path: Path) -> None:
    arguments, ours = COMMANDS[name]
    if name == "convert":
        write_folder(tmp_path / "published", "video_salmonn2", tiny.build("video_salmonn2"))
        tiny.tokenizer().save_pretrained(tmp_path / "published")
    done = run(FASTAV, arguments, tmp_path)
    assert done.returncode == 0, done.stderr
    assert strange(done.stderr, ours) == []


def test_json_is_the_whole_of_stdout_and_progress_stays_on_stderr(tmp_path: Path) -> None:
    done = run(FASTAV, ("inspect", MODEL, "--json"), tmp_path)
    assert done.stdout[0] + done.stdout.rstrip()[-1] == "{}"
    assert strange(done.stderr, ()) == []


def test_the_launcher_of_tgi_shows_its_help_without_tgi(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PATH"}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, "--help"],
        cwd=tmp_path,
        env={**environment, "PATH": str(tmp_path), "PYTHONPATH": with_checkout()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--model-override" in done.stdout
    assert "There is no text-generation-launcher" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo",),
        pytest.param(("eval", "--questions", "1"), marks=pytest.mark.slow),
        ("generate", "--model", MODEL, "--question", "Why?", "--video", CLIP),
        pytest.param(
            ("calibrate", "--output", "cal.safetensors", "--samples", "3"), marks=pytest.mark.slow
        ),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_an_extra_would_bring_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """In an environment of the core alone."""
    names = ("av", "PIL", "torchvision", "soundfile", "kaldi_native_fbank", "matplotlib")
    block = f"import sys; sys.modules.update(dict.fromkeys({names})); "
    done = run(block + FASTAV, arguments, tmp_path)
    assert done.returncode == 2
    (line,) = strange(done.stderr, ())
    assert line.startswith("fastav: error: ")
    assert line.endswith(install_hint("media"))


def test_a_line_of_a_library_would_be_noticed() -> None:
    warning = "/site-packages/torch/x.py:3: UserWarning: deprecated"
    assert strange(f"Settings: x\n{warning}\nwork: 3 of 4 steps, 0:32\n", ()) == [warning]
