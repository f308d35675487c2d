"""The canary with commands that are canned: what it prints of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.canary import __main__ as program
from tests.canary import checks
from tests.canary.checks import ROOT, copy_checkout
from tests.canary.commands import LONGEST, Done, clean, run, what_broke

NAMES = ["install", "example", "inspect", "oracle", "versions"]
TRACEBACK = """\
Traceback (most recent call last):
  File "example.py", line 3, in <module>
transformers.errors.HubError: no such
model
"""


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets commands that hold a word fail; no environment is made."""

    def fail(word: str | None = None, output: str = TRACEBACK) -> None:
        def answer(command: Sequence[Any], folder: Path, seconds: int) -> Done:
            assert folder.is_dir()
            if word is not None and any(word in str(part) for part in command):
                return Done(False, output)
            return Done(True, "python 3.11.7\ntorch 2.7.0\n")

        monkeypatch.setattr(checks, "run", answer)
        monkeypatch.setattr("venv.create", lambda *given, **options: None)

    return fail


def test_all_is_well(canned: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    canned()
    assert program.main([]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == NAMES
    assert shown[-1] == "versions  ok: python 3.11.7, torch 2.7.0"
    assert all(line.split()[1] == "ok:" for line in shown)


@pytest.mark.parametrize(
    ("word", "name"),
    [("example.py", "example"), ("inspect", "inspect"), ("tests.canary.oracle", "oracle")],
)
def test_one_breaks(
    canned: Callable[..., None], capsys: pytest.CaptureFixture[str], word: str, name: str
) -> None:
    canned(word)
    assert program.main(["--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in found] == NAMES
    assert [check for check in found if not check["ok"]] == [
        {"name": name, "ok": False, "text": "transformers.errors.HubError: no such"}
    ]


def test_the_installation_breaks(
    canned: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    canned("pip", "some words\nERROR: No matching distribution found for torch\n")
    assert program.main([]) == 1
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "install   BROKE: ERROR: No matching distribution found for torch"
    assert len(others) == 4
    assert all("not run, as the installation broke" in line for line in others)


def test_constraint(
    canned: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    canned("-c")
    file = tmp_path / "limits.txt"
    file.write_text("torch==2.7.0\n")
    assert program.main(["--constraint", str(file)]) == 1
    with pytest.raises(SystemExit) as ended:
        program.main(["--constraint", str(tmp_path / "none.txt")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("none.txt'")


def test_keep(canned: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    canned()
    program.main(["--keep"])
    kept = Path(capsys.readouterr().err.splitlines()[-1].removeprefix("tests.canary: kept: "))
    assert (kept / "checkout" / "setup.cfg").is_file()
    assert (kept / "oracle" / "tests" / "canary" / "oracle.py").is_file()
    assert not (kept / "oracle" / "fastav_plugin").exists()
    shutil.rmtree(kept)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (TRACEBACK, "transformers.errors.HubError: no such"),
        ("a\nKeyError: 'x'\nb\n", "KeyError: 'x'"),
        ("fastav: error: refused\n", "fastav: error: refused"),
        ("first\nlast\n\n", "last"),
        ("", "it failed without a message"),
    ],
)
def test_what_broke(output: str, line: str) -> None:
    assert what_broke(output) == line


def test_a_long_line_is_cut() -> None:
    assert len(what_broke("x" * 1000)) == LONGEST


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "mine")
    code = "import os; print(os.environ.get('PYTHONPATH'), os.getcwd())"
    assert run([sys.executable, "-c", code], tmp_path, 60).output == f"None {tmp_path}\n"
    failed = run([sys.executable, "-c", "raise SystemExit('no')"], tmp_path, 60)
    assert not failed.ok and failed.broke == "no"
    late = run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, 1)
    assert not late.ok and late.broke == "it ran for more than 1 s"
    assert clean({"HOME": "h", "PIP_CONSTRAINT": "c"})["HOME"] == "h"


@pytest.mark.parametrize("has_git", [True, False])
def test_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_git: bool) -> None:
    if not has_git:
        monkeypatch.setenv("PATH", "")
    elif subprocess.run(["git", "status"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("not a git checkout")
    copy_checkout(ROOT, tmp_path / "copy")
    assert (tmp_path / "copy" / "fastav_plugin" / "hooks").is_symlink()
    assert (tmp_path / "copy" / "README.md").read_text() == (ROOT / "README.md").read_text()
    assert not (tmp_path / "copy" / ".venv").exists()


def test_it_starts_without_packages(tmp_path: Path) -> None:
    """As with the bare Python that `make canary` finds."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "tests.canary", "--help"],
        cwd=ROOT,
        env={"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Example: python -m tests.canary" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
