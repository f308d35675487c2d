"""The time table of the tests counts each test once, in its folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.time_table import folder_of

ROOT = Path(__file__).parents[2]

TESTS = """
import time

import pytest


@pytest.fixture
def prepared():
    time.sleep(1)


@pytest.mark.slow
def test_slow(prepared): pass

def test_quick(): pass

@pytest.mark.skip(reason="why not")
def test_skipped(): pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], ["-n", "2", "--dist", "worksteal"]])
def test_each_folder_has_its_line(tmp_path: Path, workers: list[str]) -> None:
    for folder in ("tests/rooms/deep/deeper", "tests/other"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"test_{Path(folder).name}.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow: slow\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.time_table", *workers]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-c", str(tmp_path / "pytest.ini"), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    table = done.stdout.partition("time table")[2].splitlines()[1:5]
    found = {line.split()[0]: line.split()[1:] for line in table}
    assert set(found) == {"folder", "rooms/deep", "other", "all"}, done.stdout
    assert found["other"][:5] == ["3", "1", "1", "1", "1"]
    assert found["all"][:5] == ["6", "2", "2", "2", "1"]
    assert found["all"][-1].endswith("::test_slow")
    assert table[-1].startswith("all")


def test_folders() -> None:
    assert folder_of("tests/test_cache.py::test_one[a/b::c]") == "."
    assert folder_of("tests/serving/media/deeper/test_x.py::test_one") == "serving/media"
