"""The answers of an evaluation as JSON lines, from which an interrupted run resumes."""

import hashlib
import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, TextIO

from typing_extensions import override

from fastav_plugin.calibration_file import CALIBRATION_NAME
from fastav_plugin.config import CONFIG_NAME
from fastav_plugin.errors import ConfigError, in_short
from fastav_plugin.evaluation.records import Answer, Question, Record

_MODEL_FILES = (".json", ".safetensors", ".bin", ".jinja")


class LineLog(AbstractContextManager["LineLog"]):
    """Lines of JSON on disk behind a header that says what they belong to.

    A line is on disk as soon as it is appended, so a killed run resumes where it stopped; an
    incomplete last line is discarded. Without a path nothing is written.

    Attributes:
        lines: what the file held when it was opened, without its header.

    Raises:
        ConfigError: the file has another header, or was not written by `fastav eval`.
    """

    def __init__(self, path: Path | None, header: dict[str, Any]) -> None:
        self.lines: list[str] = []
        self._path = path
        self._file: TextIO | None = None
        if path is None:
            return
        header = json.loads(json.dumps(header))
        try:
            lines = _whole_lines(path)
            if lines:
                _check_header(path, json.loads(lines[0]), header)
                self.lines = lines[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
            if not lines:
                self.write(header)
        except OSError as error:
            raise ConfigError(f"Cannot use '{path}' for answers: {in_short(error)}.") from error

    @override
    def __enter__(self) -> Self:
        return self

    @override
    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def count(self) -> int:
        """How much is in the file, for who interrupts."""
        return len(self.lines)

    @property
    def kept(self) -> str:
        """For who interrupts the evaluation: what is in the file, and how to go on."""
        if self._path is None:
            return "Nothing was written: give --resume FILE.jsonl to keep the answers so far."
        return (
            f"{self._path} is kept, answered questions: {self.count}. The same command goes "
            "on from it."
        )

    def write(self, data: dict[str, Any]) -> None:
        """Add a line to the file."""
        if self._file is not None:
            self._file.write(json.dumps(data) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None


class AnswerLog(LineLog):
    """Records of questions, each a line with the answers of all settings.

    Raises:
        ConfigError: the file belongs to another model or other settings, or was not written by
            `fastav eval`.
    """

    def __init__(self, path: Path | None, header: dict[str, Any]) -> None:
        super().__init__(path, header)
        try:
            self.records = {} if path is None else _read(path, self.lines)
        except ConfigError:
            self.close()
            raise

    @property
    @override
    def count(self) -> int:
        return len(self.records)

    def append(self, record: Record) -> None:
        """Keep a record, and write it to the file."""
        self.records[record.question.key] = record
        self.write(asdict(record))


def checkpoint_digest(directory: Path) -> str:
    """SHA-256 of a checkpoint's files; pruning settings saved next to them are left out."""
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix in _MODEL_FILES and path.name not in (CONFIG_NAME, CALIBRATION_NAME):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()


def _whole_lines(path: Path) -> list[str]:
    """The complete lines; an incomplete one is cut off the file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].decode("utf-8", errors="replace").split("\n")[:-1]
    if content and not (lines and _is_ours(lines[0])):
        raise ConfigError(f"'{path}' was not written by `fastav eval`. Give another file.")
    if whole < len(content):
        os.truncate(path, whole)
    return lines


def _is_ours(line: str) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and "suite" in found


def _check_header(path: Path, found: dict[str, Any], header: dict[str, Any]) -> None:
    names = [name for name in {**header, **found} if found.get(name) != header.get(name)]
    if names:
        raise ConfigError(
            f"'{path}' holds answers of another evaluation: {', '.join(names)} differ. "
            "Give another file, or the same model and settings."
        )


def _read(path: Path, lines: list[str]) -> dict[str, Record]:
    records: dict[str, Record] = {}
    for number, line in enumerate(lines, start=2):
        try:
            values = json.loads(line)
            asked = values["question"]
            asked |= {name: tuple(asked[name]) for name in ("right", "choices")}
            question = Question(**asked)
            answers = {name: Answer(**answer) for name, answer in values["answers"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"Line {number} of '{path}' is no answer of `fastav eval`. Remove the line."
            ) from error
        records.setdefault(question.key, Record(question, answers))
    return records
