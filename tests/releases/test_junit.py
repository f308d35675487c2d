"""Counts from pytest's own report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.releases.errors import CannotRun
from tests.releases.groups import FAMILIES, GROUPS
from tests.releases.junit import OTHER, Case, count, read_cases
from tests.releases.run import Plan
from tests.releases.window import ROOT
from tests.support import families

TESTS = {
    "tests/layers/test_one.py": """
import pytest

def test_passes(): pass

class TestOfAClass:
    def test_passes(self): pass

def test_fails(): raise ValueError("wrong\\nin two lines")

@pytest.fixture
def broken(): raise OSError("no fixture")

def test_has_an_error(broken): pass

@pytest.mark.skip(reason="why not")
def test_skipped(): pass

@pytest.mark.xfail
def test_expected_to_fail(): assert False

@pytest.mark.slow
def test_slow(): pass
""",
    "tests/layers/test_unread.py": "import no_such_module\n",
    "tests/behaviour/decoding/test_turns.py": "def test_passes(): pass\n",
    "tests/test_elsewhere.py": "def test_passes(): pass\n",
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A report of pytest, and what it printed."""
    folder = tmp_path_factory.mktemp("checkout")
    for name, text in TESTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    report = folder / "report.xml"
    options = Plan(workers=0).arguments(report)
    options = [option for option in options if not option.startswith("tests/")]
    command = [sys.executable, "-m", "pytest", *options, "-W", "ignore", "tests"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 1, found.stdout + found.stderr
    return report, found.stdout


def test_every_test_is_counted_in_its_group(done: tuple[Path, str]) -> None:
    counts = count(read_cases(done[0]))
    assert set(counts) == {*GROUPS, OTHER}
    unit = counts["unit"]
    assert (unit.passed, unit.failed, unit.skipped, unit.ran) == (2, 3, 2, 5)
    assert sorted(unit.failures) == [
        "tests.layers.test_one::test_fails: ValueError: wrong",
        'tests.layers.test_one::test_has_an_error: failed on setup with "OSError: no fixture"',
        "tests.layers.test_unread: ModuleNotFoundError: No module named 'no_such_module'",
    ]
    assert counts["turns"].passed == counts[OTHER].passed == 1
    assert counts["serve"].ran == 0


def test_pytest_prints_no_closing_line(done: tuple[Path, str]) -> None:
    assert " passed" not in done[1]


def test_a_report_that_is_not_whole(done: tuple[Path, str], tmp_path: Path) -> None:
    half = tmp_path / "half.xml"
    half.write_bytes(done[0].read_bytes()[:300])
    for path in (half, tmp_path / "missing.xml"):
        with pytest.raises(CannotRun, match="^pytest ended without a report"):
            list(read_cases(path))


def test_names_of_groups() -> None:
    assert set(FAMILIES) == set(families.FAMILIES)
    for name, group in GROUPS.items():
        for path in group.paths:
            assert (ROOT / path).exists(), path
        for path in group.quick:
            file, _, test = path.partition("[")[0].partition("::")
            assert (ROOT / file).exists(), path
            assert f"def {test}" in (ROOT / file).read_text() if test else True
            assert group.holds(file.removesuffix(".py").replace("/", ".")), (name, path)
    assert not GROUPS["turns"].holds("tests.test_turns_of_others")
    case = Case("tests.test_cache.TestOfAClass", "test_it", "passed", 0.1)
    assert count(iter([case]))["unit"].passed == 1
