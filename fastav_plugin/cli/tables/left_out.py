"""Samples of a data file that are left out: each named, all counted, and the exit status."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import typer

from fastav_plugin.cli.console import remark
from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.fields import Fault

#: Samples named one by one; `--json` names all.
NAMED = 20


@dataclass
class LeftOut:
    """What a command leaves out of a data file, and how it says so.

    Attributes:
        strict: whether a single one is an error.
        file: name of the data file.
        faults: found so far, rows of the file and media alike.
        used: how many samples are left.
    """

    strict: bool = False
    file: str = ""
    faults: list[Fault] = field(default_factory=list)
    used: int = 0

    def add(self, found: Sequence[Fault], used: int) -> None:
        """Name more samples that are left out of those used so far; `used` are left.

        Raises:
            ConfigError: no sample is left, or `strict`; with the first reason.
        """
        self.faults += found
        self.used = used
        if not used or (self.strict and found):
            first = f" The first: {found[0]}" if found else ""
            some = "1 sample is" if len(found) == 1 else f"{len(found)} samples are"
            what = f"{some} invalid." if used else "No sample is valid."
            raise ConfigError(f"{what}{first}")
        for fault in sorted(found, key=_line)[:NAMED]:
            remark(f"{self.file}: left out, {fault}")
        if len(found) > NAMED:
            remark(f"... and {len(found) - NAMED} more; --json names all.")

    def to_json(self) -> list[dict[str, Any]]:
        """Place and reason of each, plain JSON data."""
        return [asdict(fault) for fault in sorted(self.faults, key=_line)]

    def end(self) -> None:
        """Count them once all work is done, and end the command with status 1; nothing for none."""
        if not self.faults:
            return
        places = "; ".join(fault.place for fault in sorted(self.faults, key=_line)[:NAMED])
        more = "; ..." if len(self.faults) > NAMED else ""
        count, whole = len(self.faults), len(self.faults) + self.used
        verb = "was" if count == 1 else "were"
        remark(f"{self.file}: {count} of {whole} samples {verb} left out: {places}{more}.")
        raise typer.Exit(1)


def _line(fault: Fault) -> int:
    """The number of the line in its place."""
    found = re.search(r"line (\d+)", fault.place)
    return int(found[1]) if found else 0
