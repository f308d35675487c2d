"""The reports of the generate() calls in a block of `pruned`."""

from typing import Any

from fastav_plugin.errors import StateError
from fastav_plugin.report import PruningReport


class Reports:
    """Accounts of the generate() calls so far; whatever else is asked of it is the last one's.

    So `reports.flops_ratio`, `reports.kept_positions(-1, "video")` and `print(reports)` are those
    of the last generate(). Those of a batch cover all its rows.

    Attributes:
        reports: one PruningReport for each generate(), in order, but for those that had a cache or
            a loop of the caller's, or a method that cuts nothing.
    """

    def __init__(self) -> None:
        self.reports: list[PruningReport[Any]] = []
        self._missing = "no generate() has ended in this block, and in its thread, yet"

    def add(self, report: PruningReport[Any] | None) -> None:
        """Take the account of a generate() that ended."""
        if report is not None:
            self.reports.append(report)
            self._missing = ""
        else:
            self._missing = (
                "the last generate() made no report: it had a cache or a loop of the caller's, or "
                "the method cuts nothing"
            )

    @property
    def last(self) -> PruningReport[Any]:
        """The last generate()'s.

        Raises:
            StateError: there is none.
        """
        if self._missing:
            raise StateError(f"There is nothing to report: {self._missing}.")
        return self.reports[-1]

    def __getattr__(self, name: str) -> Any:
        if not hasattr(PruningReport, name) and name not in PruningReport.__dataclass_fields__:
            raise AttributeError(f"A PruningReport has no attribute {name!r}.")
        return getattr(self.last, name)

    def __str__(self) -> str:
        return self._missing or str(self.last)

    def __repr__(self) -> str:
        return f"Reports({len(self.reports)}, the last: {self})"

    def _repr_html_(self) -> str | None:
        return None if self._missing else self.last._repr_html_()
