"""The table release x group, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.releases.run import Result

#: Failures that are listed for each release.
LISTED = 20
WIDTH = 80


def lines(results: Sequence[Result]) -> Iterator[str]:
    """A row for each release and group, the failures, and one closing line."""
    yield f"{'release':<10}{'group':<18}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"
    for result in results:
        for name, one in result.counts.items():
            if one.ran + one.skipped or not result.narrowed:
                yield (
                    f"{result.version:<10}{name:<18}{one.passed:>8}{one.failed:>8}"
                    f"{one.skipped:>9}{one.seconds:>9.0f}{'' if one.ran else '  none ran'}"
                )
    for result in results:
        problems = result.problems()
        for problem in problems[:LISTED]:
            yield _short(f"{result.version}: {problem}")
        if len(problems) > LISTED:
            yield f"{result.version}: {len(problems) - LISTED} more"
    yield verdict(results)


def verdict(results: Sequence[Result]) -> str:
    """Which releases passed, and which did not."""
    broken = [result.version for result in results if result.problems()]
    if not broken:
        return f"passed: transformers {', '.join(result.version for result in results)}"
    return f"FAILED: transformers {', '.join(broken)}"


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """The same as numbers."""
    return {
        "releases": [
            {
                "version": result.version,
                "passed": not result.problems(),
                "seconds": round(result.seconds, 1),
                "groups": {
                    name: {
                        "passed": one.passed,
                        "failed": one.failed,
                        "skipped": one.skipped,
                        "seconds": round(one.seconds, 1),
                    }
                    for name, one in result.counts.items()
                },
                "problems": result.problems(),
            }
            for result in results
        ]
    }


def _short(line: str) -> str:
    return line if len(line) <= 2 * WIDTH else f"{line[: 2 * WIDTH - 4]} ..."
