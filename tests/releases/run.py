"""pytest on one release."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.releases.errors import CannotRun
from tests.releases.groups import GROUPS
from tests.releases.junit import Count, count, read_cases
from tests.releases.window import ROOT

STATE = "import transformers as t; print(t.__version__, t.__file__, sep='\\n')"
#: Exit statuses of pytest that say how tests ended; all others mean that it broke off.
ENDED = (0, 1, 5)


@dataclass(frozen=True)
class Plan:
    """Which tests to run, and how.

    Attributes:
        quick: the quick subset only.
        keyword: an expression for pytest's -k, or None.
        workers: test processes; 0 runs in one process without pytest-xdist.
        groups: names of test groups.
    """

    quick: bool = False
    keyword: str | None = None
    workers: int = 2
    groups: Sequence[str] = tuple(GROUPS)

    def arguments(self, report: Path) -> list[str]:
        """Arguments of pytest; -qq leaves its own closing line out."""
        found = ["-qq", "--no-header", "--tb=short", "--continue-on-collection-errors"]
        found += ["-p", "no:cacheprovider", "-m", "not slow", f"--junitxml={report}"]
        if self.workers:
            found += ["-n", str(self.workers), "--dist", "loadfile", "--max-worker-restart", "0"]
        if self.keyword is not None:
            found += ["-k", self.keyword]
        for group in (GROUPS[name] for name in self.groups):
            found += group.quick if self.quick else group.paths
        return found


@dataclass(frozen=True)
class Result:
    """What became of one release.

    Attributes:
        version: of transformers.
        counts: of each group.
        status: exit status of pytest.
        seconds: wall-clock time.
        narrowed: whether -k chose tests, so that groups may be empty.
    """

    version: str
    counts: dict[str, Count]
    status: int
    seconds: float
    narrowed: bool = False

    def problems(self) -> list[str]:
        """What is wrong, one line each; empty if the release passed."""
        found = [line for one in self.counts.values() for line in one.failures]
        if self.status not in ENDED:
            found.append(f"pytest broke off with exit status {self.status}")
        if self.narrowed and not any(one.ran for one in self.counts.values()):
            found.append("no test ran")
        if not self.narrowed:
            empty = [name for name, one in self.counts.items() if not one.ran]
            found += [f"no test of the group '{name}' ran" for name in empty]
        if self.status and not found:
            found.append(f"pytest ended with exit status {self.status}")
        return found


def environment(folder: Path) -> dict[str, str]:
    """The environment of a process, and of those that it starts, that sees a release."""
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def check_version(folder: Path, version: str) -> None:
    """Check that it is this release which a process imports.

    Raises:
        CannotRun: it is another one, or cannot be imported.
    """
    done = subprocess.run(
        [sys.executable, "-c", STATE],
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CannotRun(f"transformers {version} cannot be imported: {why}")
    found, file = done.stdout.splitlines()[-2:]
    if found != version or not Path(file).is_relative_to(folder):
        raise CannotRun(f"transformers {version} was wanted, but {found} is imported from {file}.")


def run(version: str, folder: Path, plan: Plan) -> Result:
    """Run the tests on one release; the output of pytest goes to stderr.

    Raises:
        CannotRun: another release is imported, or pytest wrote no report.
    """
    check_version(folder, version)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as reports:
        report = Path(reports) / "report.xml"
        command = [sys.executable, "-m", "pytest", *plan.arguments(report)]
        done = subprocess.run(command, cwd=ROOT, env=environment(folder), stdout=2, check=False)
        counts = count(read_cases(report), plan.groups)
    narrowed = plan.keyword is not None
    return Result(version, counts, done.returncode, time.monotonic() - start, narrowed)
