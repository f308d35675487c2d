"""A program on a real pseudo-terminal: what it writes, and what is on the screen at the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass

from tests.support.programs import ROOT, with_checkout

#: What moves the cursor or clears a line; colours and the like.
_ESCAPE = re.compile(r"\x1b\[(\?)?([0-9;]*)([A-Za-z])")


@dataclass(frozen=True)
class Ended:
    """A program that ran on a terminal.

    Attributes:
        status: of its exit.
        raw: all it wrote, stdout and stderr, escape sequences included.
    """

    status: int
    raw: str

    @property
    def lines(self) -> list[str]:
        """Every line that was written, also those that were overwritten, without its colours."""
        return [line for line in re.split(r"[\r\n]+", _ESCAPE.sub("", self.raw)) if line]

    @property
    def screen(self) -> list[str]:
        """What is to be read at the end, without blank lines and colours."""
        rows: list[str] = [""]
        row = column = 0
        for part in re.split(r"(\x1b\[[?0-9;]*[A-Za-z]|\r|\n)", self.raw):
            if part == "\r":
                column = 0
            elif part == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif (found := _ESCAPE.fullmatch(part)) is not None:
                _, number, letter = found.groups()
                if letter == "A":
                    row = max(0, row - int(number or 1))
                elif letter == "K":
                    rows[row] = "" if number == "2" else rows[row][:column]
            else:
                before, after = rows[row][:column], rows[row][column + len(part) :]
                rows[row] = before.ljust(column) + part + after
                column += len(part)
        return [line.rstrip() for line in rows if line.strip()]


def on_screen(code: str, columns: int, **environment: str) -> Ended:
    """Run Python code in a process whose stdin, stdout and stderr are a terminal."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    writing = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")
    plain = {name: value for name, value in os.environ.items() if name not in writing}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**plain, "TERM": "xterm-256color", "PYTHONPATH": with_checkout(), **environment},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    written = b""
    try:
        while chunk := os.read(main, 65536):
            written += chunk
    except OSError:  # the other side is closed
        pass
    os.close(main)
    return Ended(process.wait(timeout=60), written.decode("utf-8", errors="replace"))
