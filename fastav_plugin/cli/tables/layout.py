"""Tables and paragraphs on stdout that fit the terminal and lose nothing.

A table that is too wide has less space between columns, then wraps its prose at words. If that is
not enough it is folded: each line of a short table becomes a block of names and values; one that is
long, or has groups of columns, is split into parts, one below the other, that repeat its first
column, unless that has the same cell twice. Off a terminal lines are of any length.
"""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

#: Cells between columns; the second where the first is too wide.
_SPACES = (2, 1)
#: Prose in a table has at least as many cells, or as it needs.
_LEAST_PROSE = 20
#: Tables of more lines are split into parts.
_SHORT = 8
#: A line off a terminal.
_ANY_LENGTH = 1_000_000
#: A space where no line ends: before a unit, and around what joins two numbers.
_FIGURE = re.compile(
    r"(?<=\d) (?=%(?!\w)|[kMGT]?B\b|m?s\b|[KMGT]?FLOP\b)"
    r"|(?<=\d) (?=(?:x|of) \d)|(?<=\d x) (?=\d)|(?<=\d of) (?=\d)"
)
#: The same in a command: between an option and its value.
_OPTION = re.compile(r"(?<=\s)(--\S+) (?=[^\s-])")
#: Stands for that space while lines are broken: one cell wide, and in no text.
_BOND = "\ue000"


def stdout() -> Console:
    """A console on stdout, as wide as the terminal or as COLUMNS says."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    width = shutil.get_terminal_size().columns if known else _ANY_LENGTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False)


def print_text(text: str, *, style: str = "") -> None:
    """Write a paragraph to stdout, broken between words; nothing for an empty one."""
    console = stdout()
    for line in text.split("\n") if text else ():
        console.print(_wrapped(console, Text(line, style), console.width))


def fill(text: str, width: int) -> str:
    """Lines of a sentence that end between words; a longer word, such as a path, stays whole."""
    bound = _FIGURE.sub(_BOND, text)
    lines = textwrap.wrap(bound, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(_with_its_mark(line, width) for line in lines).replace(_BOND, " ")


def _with_its_mark(line: str, width: int) -> str:
    """Break a path whose mark, such as a comma, a terminal would put on a line of its own."""
    mark = re.search(r"\W*$", line)
    end = mark.start() if mark else len(line)
    if len(line) <= width or end % width + len(line) - end <= width and end % width:
        return line
    place = line.rfind("/", 1, end - 1) + 1 or end - 1
    return f"{line[:place]}\n{line[place:]}"


def print_command(text: str) -> None:
    """Write a command to stdout, which a shell takes as it stands where it needs several lines."""
    console = stdout()
    bound = Text(_OPTION.sub(rf"\1{_BOND}", text))
    lines = _wrapped(console, bound, console.width - 4).split("\n")
    console.print(Text(" \\\n  ").join(lines))


def print_facts(facts: Mapping[str, str]) -> None:
    """Write one fact per line to stdout, behind its name."""
    print_table(["", ""], list(facts.items()), left=(0, 1), prose=1)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    title: str = "",
    left: Sequence[int] = (0,),
    prose: int | None = None,
    least: Sequence[int] = (),
    together: int = 1,
) -> None:
    """Write a table to stdout, in the widest form that fits.

    Args:
        columns: names; the first column says what each line is about.
        rows: the cells of each line.
        title: goes before the table.
        left: columns of text; the others are numbers, aligned to the right.
        prose: a column whose cells may be broken between words.
        least: the least width of each column.
        together: how many columns, from the second on, are not parted from each other.
    """
    console = stdout()
    print_text(title, style="bold")
    cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    least = least or [0] * len(columns)
    table = _Table(console, list(columns), cells, frozenset(left), prose, list(least))
    whole = table.grid()
    parts = [whole] if whole is not None else table.parts(together) or table.blocks()
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(part)


@dataclass(frozen=True)
class _Table:
    """The cells of a table, and the forms it may take."""

    console: Console
    columns: list[str]
    rows: list[list[Text]]
    left: frozenset[int]
    prose: int | None
    least: list[int]

    def grid(self) -> Table | None:
        """Columns side by side; None where the terminal is too narrow."""
        widths = [self._width(column) for column in range(len(self.columns))]
        for space in _SPACES:
            if sum(widths) + space * (len(widths) - 1) <= self.console.width:
                return self._drawn(widths, space)
        if self.prose is None:
            return None
        words = [word for row in self.rows for word in row[self.prose].plain.split()]
        needed = max([_LEAST_PROSE, *map(_cells, words)])
        for space in _SPACES:
            others = sum(widths) - widths[self.prose] + space * (len(widths) - 1)
            room = self.console.width - others
            if room >= min(needed, _LEAST_PROSE if len(self.columns) == 2 else needed):
                return self._drawn([*widths[: self.prose], room, *widths[self.prose + 1 :]], space)
        return None

    def parts(self, together: int) -> list[Table]:
        """Groups of columns, each behind the first; none where blocks are better or one is wide."""
        stacked = any("\n" in cell.plain for row in self.rows for cell in row)
        short = len(self.rows) <= _SHORT and together == 1
        alike = len({row[0].plain for row in self.rows}) < len(self.rows)
        if alike or (short and not (stacked and self.prose is None)):
            return []
        found: list[list[int]] = [[0]]
        for start in range(1, len(self.columns), together):
            group = list(range(start, min(start + together, len(self.columns))))
            if len(found[-1]) > 1 and self._only([*found[-1], *group]).grid() is None:
                found.append([0])
            found[-1] += group
        grids = [self._only(columns).grid() for columns in found]
        fitting = [grid for grid in grids if grid is not None]
        return fitting if len(fitting) == len(grids) else []

    def blocks(self) -> list[RenderableType]:
        """One block per line: what it is about, then names and values, several in a line."""
        return [Text("\n").join(self._block(row)) for row in self.rows]

    def _block(self, row: Sequence[Text]) -> Iterator[Text]:
        width, indent = self.console.width, Text("  ")
        yield _wrapped(self.console, _pair(self.columns[0], row[0], "bold"), width)
        if self.prose:
            pair = _pair(self.columns[self.prose], row[self.prose])
            first, *more = _wrapped(self.console, pair, width - 4).split("\n")
            yield indent + first
            yield from (indent + indent + line for line in more)
        others = [
            column
            for column in range(1, len(self.columns))
            if column != self.prose and row[column].plain
        ]
        slots = self._slots(others, width - 2)
        for start in range(0, len(others), len(slots)):
            line = Text("  ")
            for column, slot in zip(others[start:], slots, strict=False):
                pair = _pair(self.columns[column], row[column])
                line += pair
                line.pad_right(slot - _cells(pair.plain))
            line.rstrip()
            yield line if len(slots) > 1 else _wrapped(self.console, line, width)

    def _slots(self, columns: Sequence[int], width: int) -> list[int]:
        """Widths of as many pairs of name and value as fit into one line, the same in all lines."""
        cells = [_cells(self.columns[column]) + 2 + self._value_width(column) for column in columns]
        for count in range(len(columns), 1, -1):
            slots = [max(cells[place::count]) + 2 for place in range(count)]
            if sum(slots) - 2 <= width:
                return slots
        return [width]

    def _value_width(self, column: int) -> int:
        return max((_cells(row[column].plain) for row in self.rows), default=0)

    def _width(self, column: int) -> int:
        name = _cells(self.columns[column])
        return max(name, self._value_width(column), self.least[column])

    def _only(self, columns: Sequence[int]) -> "_Table":
        """Some of the columns, in this order."""
        return _Table(
            self.console,
            [self.columns[column] for column in columns],
            [[row[column] for column in columns] for row in self.rows],
            frozenset(new for new, old in enumerate(columns) if old in self.left),
            columns.index(self.prose) if self.prose in columns else None,
            [self.least[column] for column in columns],
        )

    def _drawn(self, widths: Sequence[int], space: int) -> Table:
        table = Table(
            box=None, show_header=any(self.columns), pad_edge=False, padding=(0, space, 0, 0)
        )
        for column, name in enumerate(self.columns):
            table.add_column(
                name,
                justify="left" if column in self.left else "right",
                header_style="bold cyan",
                width=widths[column],
                no_wrap=True,
            )
        for row in self.rows:
            table.add_row(
                *(
                    _wrapped(self.console, cell, widths[column]) if column == self.prose else cell
                    for column, cell in enumerate(row)
                )
            )
        return table


def _pair(name: str, value: Text, style: str = "") -> Text:
    """A name and its value in one line."""
    said = Text.assemble((f"{name}: ", "cyan")) if name else Text()
    for number, line in enumerate(value.split("\n")):
        said += Text(" " if number else "") + line
    said.stylize(style)
    return said


def _wrapped(console: Console, text: Text, width: int) -> Text:
    """Lines that end between words, and never between a number and its unit."""
    bound = text.copy()
    bound.plain = _FIGURE.sub(_BOND, text.plain)
    lines = bound.wrap(console, width)
    for line in lines:
        line.plain = line.plain.replace(_BOND, " ").rstrip()
    return Text("\n").join(lines)


def _cells(text: str) -> int:
    """The width of the widest line of a text."""
    return max((Text(line).cell_len for line in text.split("\n")), default=0)
