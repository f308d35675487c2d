"""Commands of `fastav` behind a real pseudo-terminal, many in one process."""

from __future__ import annotations

import fcntl
import functools
import importlib
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tests.support.programs import with_checkout

ROOT = Path(__file__).parents[2]
#: Goes before what each command prints.
MARK = "\x1d"
#: What takes long and gives other times when it is done again: done once for each command.
ONCE = (
    "fastav_plugin.lab.demo.run.run_demo",
    "fastav_plugin.analysis.comparison.compare",
    "fastav_plugin.lab.bench.run.run_bench",
    "fastav_plugin.lab.bench.clip.run_clip_bench",
    "fastav_plugin.calibration.run.calibrate",
    "fastav_plugin.cli.evaluation.measure.measure",
    "fastav_plugin.model_overrides.own_models.conversion.convert",
)


@dataclass(frozen=True)
class Command:
    """A command, how wide its terminal is, and what is in its environment besides."""

    arguments: Sequence[str]
    columns: int
    environment: dict[str, str] = field(default_factory=dict)


def run_in_terminal(
    commands: Sequence[Command], *, notes: bool = False, **environment: str
) -> list[str]:
    """What each command writes to stdout, a terminal, one after the other in one process.

    Args:
        commands: what to run.
        notes: whether stderr is that terminal, too.
        environment: more variables.

    Raises:
        AssertionError: one of them fails; with what it wrote to stderr.
    """
    terminal, side = pty.openpty()
    with (
        TemporaryFile() as stderr,
        subprocess.Popen(
            [sys.executable, "-c", "from tests.support.terminal import _run_all; _run_all()"],
            stdin=subprocess.PIPE,
            stdout=side,
            stderr=side if notes else stderr,
            cwd=ROOT,
            env={**_plain_environment(), **environment},
        ) as process,
    ):
        os.close(side)
        assert process.stdin is not None
        process.stdin.write(json.dumps([asdict(command) for command in commands]).encode())
        process.stdin.close()
        written = _read_all(terminal).decode()
        process.wait()
        stderr.seek(0)
        errors = stderr.read().decode()
    assert process.returncode == 0, errors
    first, *found = written.replace("\r\n", "\n").split(MARK)
    # Libraries that are imported before the first command may warn.
    assert (notes or not first) and len(found) == len(commands), written + errors
    return found


def run_in_pipe(commands: Sequence[Command], **environment: str) -> list[str]:
    """The same where stdout is a pipe."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests.support.terminal import _run_all; _run_all()"],
        input=json.dumps([asdict(command) for command in commands]).encode(),
        capture_output=True,
        cwd=ROOT,
        env={**_plain_environment(), **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split(MARK)[1:]


def _plain_environment() -> dict[str, str]:
    """Without what tells programs how to write."""
    writing = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PYTHONIOENCODING", "TTY_COMPATIBLE")
    kept = {name: value for name, value in os.environ.items() if name not in writing}
    return {**kept, "PYTHONPATH": with_checkout(), "TERM": "xterm-256color"}


def _read_all(terminal: int) -> bytes:
    found = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux, when the other side is closed
            part = b""
        if not part:
            os.close(terminal)
            return found
        found += part


def _run_all() -> None:
    """Run the commands that stdin names; in the process behind the terminal."""
    from typer.main import get_command

    from fastav_plugin.cli import app

    commands = [Command(**fields) for fields in json.loads(sys.stdin.read())]
    if not all("--help" in command.arguments for command in commands):
        for name in ONCE:
            _do_once(name)
    for command in commands:
        if sys.stdout.isatty():
            size = struct.pack("HHHH", 50, command.columns, 0, 0)
            fcntl.ioctl(sys.stdout.fileno(), termios.TIOCSWINSZ, size)
        os.environ.update(command.environment)
        global _arguments
        _arguments = tuple(command.arguments)
        sys.stdout.write(MARK)
        sys.stdout.flush()
        get_command(app)([*command.arguments], prog_name="fastav", standalone_mode=False)
        sys.stdout.flush()
        for variable in command.environment:
            del os.environ[variable]


#: Of the command that is running.
_arguments: tuple[str, ...] = ()


def _do_once(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    home = importlib.import_module(module)
    real: Callable[..., Any] = getattr(home, attribute)
    known: dict[tuple[str, ...], Any] = {}

    @functools.wraps(real)
    def once(*given: Any, **named: Any) -> Any:
        if _arguments not in known:
            known[_arguments] = real(*given, **named)
        return known[_arguments]

    setattr(home, attribute, once)
