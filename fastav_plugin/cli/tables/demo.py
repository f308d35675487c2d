"""The tables of the demonstration: answers with their marks, and what they cost."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console
from rich.text import Text

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.cli.console import print_table, stdout
from fastav_plugin.cli.tables.outcomes import cost_cells, cost_columns
from fastav_plugin.lab.demo.run import Asked, Demo


def print_answers(demo: Demo) -> None:
    """One table per clip: every question with the answer of each method, marked."""
    console = stdout()
    known = demo.asked[0].right is not None
    for clip, group in groupby(demo.asked, key=lambda asked: asked.clip):
        rows = list(group)
        columns = ["question", *(["right"] if known else [])]
        widths = [27, *([6] if known else []), *(7 for _ in rows[0].outcomes)]
        columns += [outcome.method for outcome in rows[0].outcomes]
        cells = [
            [asked.question, *([asked.right] if asked.right is not None else [])]
            + [_cell(console, asked, outcome) for outcome in asked.outcomes]
            for asked in rows
        ]
        left = range(len(columns))
        print_table(columns, cells, title=clip, left=left, widths=widths, narrow=True)
        console.print()


def print_costs(demo: Demo) -> None:
    """One row per method: tokens per stage, FLOPs, prefill time, KV bytes."""
    totals = demo.totals()
    cells = [[total.method, *cost_cells(total, demo.cut)] for total in totals]
    columns = ["method", *cost_columns(totals[0], demo.cut)]
    title = "Tokens that a layer sees, and cost of a prompt, over all questions"
    print_table(columns, cells, title=title, narrow=True)


def print_verdict(demo: Demo) -> None:
    """How many answers of each method are right, or agree with dense, in one line."""
    totals = demo.totals()
    if demo.asked[0].right is None:
        title, totals = "As dense", totals[1:]
    else:
        title = "Right"
    parts = [f"{total.method} {total.right} of {total.questions}" for total in totals]
    stdout().print(f"\n{title}: {', '.join(parts)}", style="bold", soft_wrap=True)


def _cell(console: Console, asked: Asked, outcome: Outcome) -> Text:
    """The answer behind a mark, which is there without colours too."""
    plain = not console.encoding.startswith("utf")
    fine = asked.is_right(outcome)
    if asked.right is not None:
        mark = ("+" if plain else "✓") if fine else ("x" if plain else "✗")
    elif outcome is asked.outcomes[0]:
        return Text(outcome.answer)
    else:
        mark = "=" if fine else ("!" if plain else "≠")
    return Text(f"{mark} {outcome.answer}", style="green" if fine else "bold red")
