"""The tables of the demonstration: answers with their marks, and what they cost."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.cli.console import flops, percent, seconds, size, stdout
from fastav_plugin.lab.demo.run import Asked, Demo


def print_answers(demo: Demo) -> None:
    """One table per clip: every question with the answer of each method, marked."""
    console = stdout()
    known = demo.asked[0].right is not None
    for clip, group in groupby(demo.asked, key=lambda asked: asked.clip):
        rows = list(group)
        table = _table(clip)
        table.add_column("question", no_wrap=True, min_width=27)
        if known:
            table.add_column("right", no_wrap=True, min_width=6)
        for outcome in rows[0].outcomes:
            table.add_column(outcome.method, no_wrap=True, min_width=7)
        for asked in rows:
            cells = [_cell(console, asked, outcome) for outcome in asked.outcomes]
            table.add_row(asked.question, *([asked.right] if known else []), *cells)
        console.print(table)
        console.print()


def print_costs(demo: Demo) -> None:
    """One row per method: tokens per stage, FLOPs, prefill time, KV bytes."""
    totals = demo.totals()
    last = len(totals[0].tokens_per_layer) - 1
    rows = [
        [
            total.method,
            *(f"{total.tokens_per_layer[layer]:.0f}" for layer in (0, demo.cut, last)),
            flops(total.macs),
            percent(total.flops_ratio),
            seconds(total.prefill_seconds),
            size(total.kv_bytes),
        ]
        for total in totals
    ]
    columns = ["method", "layer 0", f"layer {demo.cut}", f"layer {last}"]
    columns += ["FLOPs", "of dense", "prefill", "KV cache"]
    table = _table("Tokens that a layer sees, and cost of a prompt, over all questions")
    for index, name in enumerate(columns):
        table.add_column(name, no_wrap=True, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    stdout().print(table)


def print_verdict(demo: Demo) -> None:
    """How many answers of each method are right, or agree with dense, in one line."""
    totals = demo.totals()
    if demo.asked[0].right is None:
        title, totals = "As dense", totals[1:]
    else:
        title = "Right"
    parts = [f"{total.method} {total.right} of {total.questions}" for total in totals]
    stdout().print(f"\n{title}: {', '.join(parts)}", style="bold", soft_wrap=True)


def _table(title: str) -> Table:
    """A table that fits into 80 columns."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold cyan",
        box=None,
        pad_edge=False,
        collapse_padding=True,
    )


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
