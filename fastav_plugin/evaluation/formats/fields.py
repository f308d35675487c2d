"""Rows of a JSON list or of JSON lines, each with its place in the file."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fastav_plugin.errors import ConfigError

_DECODER = json.JSONDecoder()
_BLANK = " \t\r\n"

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Fault:
    """A row that could not be used, with the reason, a sentence.

    Its place is "line 3", or "[2], line 9" for an entry of a JSON list, counted from 0.
    """

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class Row:
    """One object of a file, its index from 0 (faulty ones count) and its place as in `Fault`."""

    index: int
    place: str
    values: Mapping[str, Any]

    def text(self, *names: str) -> str:
        """The text under the first of these names there is; ConfigError for none, or no text."""
        name = next((name for name in names if name in self.values), None)
        if name is None:
            raise ConfigError(f"There is no {' or '.join(f'`{name}`' for name in names)}.")
        value = self.values[name]
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"`{name}` must be text, got {value!r}.")
        return value

    def texts(self, name: str) -> list[str]:
        """A text, or a list of at least one, as a list; ConfigError for something else."""
        value = self.values.get(name)
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found:
            raise ConfigError(f"`{name}` must be text or a list of texts, got {value!r}.")
        for part in found:
            if not isinstance(part, str) or not part.strip():
                raise ConfigError(f"`{name}` must hold texts, got {part!r}.")
        return found


@dataclass
class Table:
    """What a data file holds: rows in its order, and faults for entries that are none.

    Where the whole file is an object that is no row, that is its `document`.
    """

    rows: list[Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    document: Mapping[str, Any] | None = None

    def add(self, place: str, value: Any) -> None:
        """Count one entry."""
        if isinstance(value, dict):
            self.rows.append(Row(len(self.rows) + len(self.faults), place, value))
        else:
            self.faults.append(Fault(place, f"A row must be a JSON object, got {value!r:.60}."))


def read_table(path: Path) -> Table:
    """Read a JSON list of objects, JSON lines, or one JSON object.

    Raises:
        ConfigError: a file that cannot be read, is empty, or is a list that breaks off.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"The data file '{path}' is no text. Give JSON or JSON lines.") from error
    except OSError as error:
        raise ConfigError(f"Cannot read the data file '{path}': {error.strerror}.") from error
    start = text.lstrip()[:1]
    if not start:
        raise ConfigError(f"The data file '{path}' is empty.")
    if start == "[":
        return _list(path, text)
    try:
        whole = json.loads(text)
    except ValueError:
        return _lines(text)
    table = Table()
    if isinstance(whole, dict) and any(isinstance(part, list) for part in whole.values()):
        table.document = whole
    table.add("line 1", whole)
    return table


def parse_rows(
    rows: Iterable[Row], parse: Callable[[Row], Parsed], limit: int | None = None
) -> tuple[list[Parsed], list[Fault]]:
    """Parse rows until `limit` are parsed; those whose parser raises ConfigError become faults."""
    found: list[Parsed] = []
    faults: list[Fault] = []
    for row in rows:
        if limit is not None and len(found) == limit:
            break
        try:
            found.append(parse(row))
        except ConfigError as error:
            faults.append(Fault(row.place, str(error)))
    return found, faults


def join_rows(table: Table, answers: Table, key: str) -> Table:
    """Add the values of the row with the same `key` in another file.

    Rows without an answer, keys that occur twice and answers to no question become faults.
    """
    found: dict[str | None, Row] = {}
    joined = Table(faults=list(table.faults))
    joined.faults += [Fault(f"answers, {fault.place}", fault.reason) for fault in answers.faults]
    for row in answers.rows:
        name = _key(row, key)
        if name is None or name in found:
            reason = f"`{key}` {name!r} occurs twice." if name else f"There is no `{key}`."
            joined.faults.append(Fault(f"answers, {row.place}", reason))
        else:
            found[name] = row
    asked: set[str | None] = set()
    for row in table.rows:
        name = _key(row, key)
        if name in asked:
            joined.faults.append(Fault(row.place, f"`{key}` {name!r} occurs twice."))
        elif name not in found:
            joined.faults.append(Fault(row.place, f"No answer has the `{key}` {name!r}."))
        else:
            asked.add(name)
            joined.rows.append(replace(row, values={**found[name].values, **row.values}))
    for name, row in found.items():
        if name not in asked:
            joined.faults.append(Fault(f"answers, {row.place}", f"No question has this `{key}`."))
    return joined


def _key(row: Row, key: str) -> str | None:
    value = row.values.get(key)
    return str(value) if isinstance(value, str | int) else None


def _lines(text: str) -> Table:
    table = Table()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            table.add(f"line {number}", json.loads(line))
        except ValueError as error:
            table.faults.append(Fault(f"line {number}", f"Not valid JSON: {error}."))
    return table


def _list(path: Path, text: str) -> Table:
    table = Table()
    position, line, counted = text.index("[") + 1, 1, 0
    for index in itertools.count():
        position = _skip(text, position)
        line, counted = line + text.count("\n", counted, position), position
        place = f"[{index}], line {line}"
        if text[position : position + 1] == "]" and not table.rows and not table.faults:
            break
        try:
            value, position = _DECODER.raw_decode(text, position)
        except ValueError as error:
            raise ConfigError(
                f"'{path}' breaks off at {place}: {error}. Fix the file: what follows cannot be "
                "read."
            ) from error
        table.add(place, value)
        position = _skip(text, position)
        if text[position : position + 1] == "]":
            break
        if text[position : position + 1] != ",":
            raise ConfigError(f"'{path}' breaks off after {place}: no ',' or ']' follows.")
        position += 1
    if text[position + 1 :].strip():
        raise ConfigError(f"'{path}' continues after the end of its list.")
    return table


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _BLANK:
        position += 1
    return position
