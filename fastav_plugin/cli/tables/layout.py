"""Tables on stdout, as wide as the terminal."""

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    title: str = "",
    left: Sequence[int] = (0,),
    wrap: Sequence[int] = (),
    widths: Sequence[int] = (),
    narrow: bool = False,
) -> None:
    """Write a table to stdout.

    Columns of `left` hold text; the others are numbers, aligned to the right. Those of `wrap` may
    be broken into lines where the terminal is narrow. `widths` are the least of each column.
    `narrow` leaves out space around columns, for tables that shall fit 80 characters.
    """
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=any(columns),
        pad_edge=not narrow,
        collapse_padding=narrow,
    )
    for index, name in enumerate(columns):
        table.add_column(
            name,
            justify="left" if index in left else "right",
            no_wrap=index not in wrap,
            overflow="fold",
            header_style="bold cyan",
            min_width=widths[index] if widths else None,
        )
    for row in rows:
        table.add_row(*row)
    stdout().print(table)


def print_facts(facts: Mapping[str, str]) -> None:
    """Write one fact per line to stdout, behind its name."""
    print_table(["", ""], list(facts.items()), left=(0, 1), wrap=(1,))


def stdout() -> Console:
    """A console on stdout; a file or pipe gets lines of any length."""
    width = None if sys.stdout.isatty() else 160
    return Console(file=sys.stdout, width=width, highlight=False, markup=False)
