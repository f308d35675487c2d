"""What the command line prints: data on stdout, everything else on stderr, errors in one line."""

import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from fastav_plugin.errors import ConfigError, FastAVError

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]


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
        """Keep a remark that is new."""
        text = record.getMessage()
        if text not in self._known:
            self._known.add(text)
            self._new.append(text)

    def show(self) -> None:
        """Write the new ones to stderr."""
        for text in self._new[: self.MOST]:
            note(text)
        if len(self._new) > self.MOST:
            note(f"... and {len(self._new) - self.MOST} more.")
        self._new.clear()


#: Shows what was remarked where a progress ends.
REMARKS = _Remarks()


class Group(TyperGroup):
    """A command group whose user errors are one line on stderr and exit status 2."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; FastAVError and wrong usage become one line."""
        REMARKS.forget()
        standalone = kwargs.pop("standalone_mode", True)
        kwargs["standalone_mode"] = False
        try:
            status = super().main(*args, **kwargs)
        except (FastAVError, OSError) as error:
            if "--debug" in (kwargs.get("args") or sys.argv[1:]):
                traceback.print_exc()
            _fail(str(error))
        except Exception as error:
            # typer carries its own copy of click, whose usage errors have these two.
            if not hasattr(error, "format_message") or not hasattr(error, "exit_code"):
                raise
            context = getattr(error, "ctx", None)
            hint = f" Try '{context.command_path} --help'." if context else ""
            _fail(f"{error.format_message().rstrip('.')}.{hint}")
        if standalone:
            sys.exit(status if isinstance(status, int) else 0)
        return status


def make_room(*paths: Path | None) -> None:
    """Make the folders of files that are written once all work is done."""
    for path in paths:
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"Cannot write {path}: {error.strerror}.") from error


def _fail(message: str) -> NoReturn:
    """End with the exit status of a user error."""
    print(f"fastav: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def print_json(data: Any) -> None:
    """Write data as JSON to stdout."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """Write a remark to stderr."""
    Console(stderr=True, highlight=False, markup=False).print(text, soft_wrap=True)
