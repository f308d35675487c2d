"""Commands of the canary, each ending in one line that says what broke."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Lines that name an error: of Python, of pip, of the command line.
_ERRORS = (
    re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Warning|Interrupt|Wrong)\b.*"),
    re.compile(r"^(?:ERROR|error|fastav: error): .*"),
)
#: Variables that would let other packages in.
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_CONSTRAINT", "PIP_REQUIRE_VIRTUALENV")
LONGEST = 160


@dataclass(frozen=True)
class Done:
    """A command that ended.

    Attributes:
        ok: exit status 0.
        output: stdout and stderr together.
        seconds: the limit it ran past, or None.
    """

    ok: bool
    output: str
    seconds: int | None = None

    @property
    def broke(self) -> str:
        """What broke, in one line."""
        if self.seconds is not None:
            return f"it ran for more than {self.seconds} s"
        return what_broke(self.output)


def what_broke(output: str) -> str:
    """The last line that names an error, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    named = [line for line in lines if any(pattern.match(line) for pattern in _ERRORS)]
    found = (named or lines or ["it failed without a message"])[-1]
    return found if len(found) <= LONGEST else f"{found[: LONGEST - 4]} ..."


def run(command: Sequence[str | Path], folder: Path, seconds: int) -> Done:
    """Run a command in a folder, without the variables of the shell that name other packages."""
    print(f"tests.canary: {' '.join(map(str, command))}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            env=clean(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Done(False, "", seconds)
    if done.returncode:
        print(done.stdout[-4000:], file=sys.stderr, flush=True)
    return Done(done.returncode == 0, done.stdout)


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which only the new packages are found, and no model is downloaded."""
    kept = {name: value for name, value in environment.items() if name not in _FOREIGN}
    return kept | {"PYTHONNOUSERSITE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
