"""Counts from the XML report of pytest."""

from __future__ import annotations

import xml.etree.ElementTree as xml
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.releases.errors import CannotRun
from tests.releases.groups import GROUPS

#: For tests that no group holds.
OTHER = "other"


@dataclass(frozen=True)
class Case:
    """One test.

    Attributes:
        module: such as "tests.test_cache".
        name: of the test; "" for a module that could not be collected.
        outcome: "passed", "failed" or "skipped".
        seconds: time taken.
        reason: first line of why it failed.
    """

    module: str
    name: str
    outcome: str
    seconds: float
    reason: str = ""


@dataclass
class Count:
    """The tests of one group.

    Attributes:
        passed, failed, skipped: numbers of tests.
        seconds: of all of them, one after the other.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def ran(self) -> int:
        """Tests that were not skipped."""
        return self.passed + self.failed


def read_cases(path: Path) -> Iterator[Case]:
    """The tests of a report.

    Raises:
        CannotRun: pytest wrote no report, or not to its end.
    """
    try:
        root = xml.parse(path).getroot()
    except (OSError, xml.ParseError):
        raise CannotRun("pytest ended without a report; its output is above.") from None
    for case in root.iter("testcase"):
        module, name = case.get("classname", ""), case.get("name", "")
        if not module:  # a module that could not be collected
            module, name = name, ""
        seconds = float(case.get("time", 0))
        wrong = [found for kind in ("failure", "error") for found in case.findall(kind)]
        if wrong:
            text = wrong[0].get("message") or wrong[0].text or ""
            if not name:  # the message is "collection failure", the cause is in the text
                text = _cause(wrong[0].text or text)
            yield Case(module, name, "failed", seconds, text.strip().split("\n")[0])
        else:
            skipped = case.find("skipped") is not None
            yield Case(module, name, "skipped" if skipped else "passed", seconds)


def _cause(text: str) -> str:
    """The first line that pytest marks as the error."""
    marked = [line[1:].strip() for line in text.split("\n") if line.startswith("E ")]
    return marked[0] if marked else text


def count(cases: Iterator[Case], names: Iterable[str] = GROUPS) -> dict[str, Count]:
    """Counts of each named group; those without a test are there too."""
    counts = {name: Count() for name in names}
    for case in cases:
        holders = [name for name, group in GROUPS.items() if group.holds(case.module)]
        found = counts.setdefault(holders[0] if holders else OTHER, Count())
        setattr(found, case.outcome, getattr(found, case.outcome) + 1)
        found.seconds += case.seconds
        if case.outcome == "failed":
            test = f"{case.module}::{case.name}" if case.name else case.module
            found.failures.append(f"{test}: {case.reason}")
    return counts
