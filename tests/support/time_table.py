"""How long which tests took, printed after them: `pytest -p tests.support.time_table`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest


@dataclass
class Row:
    """The tests of one folder.

    Attributes:
        tests, seconds: of all, one after the other; skipped ones count as tests.
        slow, slow_seconds: of those marked slow alone.
        longest: name and seconds of the longest test.
    """

    tests: int = 0
    seconds: float = 0.0
    slow: int = 0
    slow_seconds: float = 0.0
    longest: tuple[str, float] = ("", 0.0)

    def add(self, name: str, seconds: float, *, slow: bool) -> None:
        """Count one test."""
        self.tests += 1
        self.seconds += seconds
        if slow:
            self.slow += 1
            self.slow_seconds += seconds
        if seconds >= self.longest[1]:
            self.longest = (name, seconds)


def folder_of(test: str) -> str:
    """The folder below tests/ that a test's file lies in, two names deep."""
    return "/".join(test.partition("::")[0].split("/")[1:-1][:2]) or "."


def rows(reports: Iterable[pytest.TestReport]) -> dict[str, Row]:
    """The time table; a test takes the time of its fixtures as well."""
    seconds: dict[str, float] = {}
    slow: dict[str, bool] = {}
    for report in reports:
        seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
        slow[report.nodeid] = "slow" in report.keywords
    table: dict[str, Row] = {}
    for test, taken in seconds.items():
        for name in (folder_of(test), "all"):
            table.setdefault(name, Row()).add(test, taken, slow=slow[test])
    return table


def lines(table: dict[str, Row]) -> Iterator[str]:
    """A line for each folder, the one that takes most first, and one for all."""
    yield f"{'folder':<34}{'tests':>7}{'seconds':>9}{'slow':>7}{'seconds':>9}  longest test"
    order = sorted(table, key=lambda name: (name == "all", -table[name].seconds))
    for name in order:
        row = table[name]
        test, seconds = row.longest
        yield (
            f"{name:<34}{row.tests:>7}{row.seconds:>9.0f}{row.slow:>7}{row.slow_seconds:>9.0f}"
            f"  {seconds:.0f} s {test.rpartition('/')[2]}"
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table; where several processes run tests, in the one that reports."""
    reports = (report for group in terminalreporter.stats.values() for report in group)
    table = rows(report for report in reports if isinstance(report, pytest.TestReport))
    if table:
        terminalreporter.section("time table: seconds of one process")
        for line in lines(table):
            terminalreporter.write_line(line)
