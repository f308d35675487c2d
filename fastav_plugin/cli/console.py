"""What the command line prints: data on stdout, everything else on stderr, errors in one line."""

import errno
import io
import json
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from fastav_plugin.cli.help import fit_help
from fastav_plugin.cli.tables.layout import fill
from fastav_plugin.errors import ConfigError, FastAVError
from fastav_plugin.media.files import with_purpose

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]

#: A file that is missing because it is elsewhere.
_ADDRESS = re.compile(r"'[a-z]+://[^']*' does not exist")


#: What is called otherwise in all other messages.
_WORDS = {": dir '": ": folder '", "' is a directory": "' is a folder"}


class _Remarks(logging.Handler):
    """What the reader of media remarks while a progress bar is shown; each once in a command."""

    #: How many are shown of one bar.
    MOST = 5

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._known: set[str] = set()
        self._new: list[str] = []

    def forget(self) -> None:
        """Start a command."""
        self._known.clear()
        self._new.clear()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a remark that is new, behind what the medium was read for."""
        text = record.getMessage()
        if text not in self._known:
            self._known.add(text)
            self._new.append(with_purpose(text))

    def show(self) -> None:
        """Write the new ones to stderr."""
        for text in self._new[: self.MOST]:
            remark(text)
        if len(self._new) > self.MOST:
            remark(f"... and {len(self._new) - self.MOST} more.")
        self._new.clear()


#: Shows what was remarked where a progress ends.
REMARKS = _Remarks()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with a sentence about what is kept and how to go on."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """Where the block is interrupted, `kept` says what is there and how to go on."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt as error:
        # The cause tells SIGTERM from Ctrl-C.
        raise Interrupted(kept()) from error


class Group(TyperGroup):
    """A command group whose user errors are one line on stderr and exit status 2.

    Ctrl-C is one line and exit status 130. After SIGTERM and its line the process ends by it.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; FastAVError and wrong usage become one line."""
        REMARKS.forget()
        fit_help(self)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # What the encoding of a terminal lacks is written as an escape.
            sys.stdout.reconfigure(errors="backslashreplace")
        standalone = kwargs.pop("standalone_mode", True)
        kwargs["standalone_mode"] = False
        try:
            status = super().main(*args, **kwargs)
        except (FastAVError, OSError) as error:
            if "--debug" in (kwargs.get("args") or sys.argv[1:]):
                traceback.print_exc()
            _fail(_of_disk(error) if isinstance(error, OSError) else str(error))
        except Exception as error:
            # typer carries its own copy of click, whose usage errors have these two.
            if not hasattr(error, "format_message") or not hasattr(error, "exit_code"):
                raise
            if not error.format_message():  # help was shown, as nothing was given
                sys.exit(error.exit_code)
            context = getattr(error, "ctx", None)
            hint = f" Try '{context.command_path} --help'." if context else ""
            message = error.format_message().rstrip(".")
            if _ADDRESS.search(message):
                hint = " Download it first: a command reads local files."
            for theirs, ours in _WORDS.items():
                message = message.replace(theirs, ours)
            _fail(f"{message}{'' if message.endswith('?') else '.'}{hint}")
        if standalone:
            sys.exit(status if isinstance(status, int) else 0)
        return status

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the command line; where that is interrupted, say that nothing is done."""
        with _interrupted_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; where it is interrupted, say what is kept."""
        with _interrupted_in_one_line():
            return super().invoke(ctx)


@contextmanager
def _interrupted_in_one_line() -> Iterator[None]:
    """Say what is kept of what is interrupted, and end by SIGTERM or with status 130."""
    try:
        yield
    except KeyboardInterrupt as error:
        ended = isinstance(error, Terminated) or isinstance(error.__cause__, Terminated)
        what = str(error) if isinstance(error, Interrupted) else "Nothing was written."
        print(f"{'Terminated' if ended else 'Interrupted'}. {what}", file=sys.stderr)
        if ended:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        raise typer.Exit(130) from error


def end_by_sigterm() -> None:
    """From now on SIGTERM ends a command as Ctrl-C does, so that it leaves nothing half done."""

    def end(number: int, frame: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)


def make_room(*paths: Path | None) -> None:
    """Make the folders of files that are written once all work is done.

    Raises:
        ConfigError: such a file could not be written.
    """
    for path in paths:
        if path is None:
            continue
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "It is a folder")
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the disk refuses while the block writes a file becomes a ConfigError that names it."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"Cannot write '{path}': {error.strerror or error}.") from error


def _of_disk(error: OSError) -> str:
    """What went wrong, and where, without the number of the error."""
    where = f"'{error.filename}': " if error.filename else ""
    return f"{where}{error.strerror}." if error.strerror else str(error)


def _fail(message: str) -> NoReturn:
    """End with the exit status of a user error."""
    print(f"fastav: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def print_json(data: Any) -> None:
    """Write data as JSON to stdout."""
    utf = sys.stdout.encoding.lower().startswith("utf")
    typer.echo(json.dumps(data, indent=2, ensure_ascii=not utf))


def note(text: str) -> None:
    """Write a sentence about the result to stderr; a terminal breaks it between words."""
    console = Console(stderr=True, highlight=False, markup=False)
    console.print(fill(text, console.width) if console.is_terminal else text, soft_wrap=True)


def remark(text: str) -> None:
    """Write to stderr what is odd about the user's files, in the manner of an error."""
    note(f"fastav: {text}")
