"""One line per check, and a summary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Report:
    """Prints checks as they are made.

    Attributes:
        passed: number of checks that held.
        failed: names of those that did not.
    """

    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[str] = []
        self.group = ""
        self.begin = time.monotonic()

    def check(self, name: str, holds: bool, detail: str = "") -> bool:
        """Count and print one check; `detail` says what was seen."""
        if holds:
            self.passed += 1
        else:
            self.failed.append(f"{self.group}: {name}")
        print(f"{'ok    ' if holds else 'FAILED'} {self.group}: {name}", end="")
        print(f"  [{detail}]" if detail else "", flush=True)
        return holds

    @contextmanager
    def of(self, group: str) -> Iterator[None]:
        """Checks under one heading; an error in it is a failed check, and the rest goes on."""
        self.group = group
        start = time.monotonic()
        try:
            yield
        except Exception as error:
            self.check("ran to its end", False, f"{type(error).__name__}: {error}")
        print(f"       {group}: {time.monotonic() - start:.1f} s", flush=True)

    def summary(self) -> int:
        """Print the result; the exit status."""
        seconds = time.monotonic() - self.begin
        print(f"\n{self.passed} passed, {len(self.failed)} failed in {seconds:.0f} s")
        for name in self.failed:
            print(f"  FAILED {name}")
        return 1 if self.failed else 0
