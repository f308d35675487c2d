"""The tables of a comparison and of the demonstration: answers, and what they cost."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.cli.tables.layout import print_command, print_table, print_text, stdout
from fastav_plugin.display.units import percent, seconds, size
from fastav_plugin.lab.demo.run import Asked, Demo, Total


def print_outcomes(outcomes: Sequence[Outcome], cut: int, title: str) -> None:
    """One row per method, dense first: answer and cost; `cut` is the layer of the global cut."""
    columns = ["method", "answer", *_cost_columns(outcomes[0], cut)]
    cells = [[one.method, one.answer, *_cost_cells(one, cut)] for one in outcomes]
    print_table(columns, cells, title=title, left=(0, 1), prose=1)


def print_answers(demo: Demo) -> None:
    """One table per clip: every question with the answer of each method, marked."""
    console = stdout()
    known = demo.asked[0].right is not None
    for clip, group in groupby(demo.asked, key=lambda asked: asked.clip):
        rows = list(group)
        methods = [outcome.method for outcome in rows[0].outcomes]
        columns = ["question", *(["right"] if known else []), *methods]
        widths = [27, *([6] if known else []), *(7 for _ in methods)]
        cells = [
            [asked.question, *([] if asked.right is None else [asked.right])]
            + [_cell(console, asked, outcome) for outcome in asked.outcomes]
            for asked in rows
        ]
        left = range(len(columns))
        print_table(columns, cells, title=clip, left=left, least=widths)
        console.print()


def print_costs(demo: Demo) -> None:
    """One row per method: tokens per stage, FLOPs, prefill time, KV bytes."""
    totals = demo.totals()
    cells = [[total.method, *_cost_cells(total, demo.cut)] for total in totals]
    title = (
        "Tokens that a layer sees, and cost of a prompt, over all questions. "
        "FLOPs: of the decoder's layers, as a share of dense. Prefill: decoder and encoders"
    )
    columns = ["method", *_cost_columns(totals[0], demo.cut)]
    print_table(columns, cells, title=title)


def print_record(found: dict[str, Any]) -> None:
    """What was measured at the shape of a 7B model, where, and how to repeat it."""
    dense, *pruned = found["cases"]
    prompt, machine = found["prompt"], found["machine"]
    cases = [
        f"{case['case']} {seconds(case['median_seconds'])} ({percent(case['ratio'])})"
        for case in pruned
    ]
    media = [f"{prompt[kind]:,} {kind}" for kind in ("image", "video", "audio") if prompt[kind]]
    print_text(
        f"\nAt the shape of a 7B decoder ({found['shape']}, random weights) a prefill took: dense "
        f"{seconds(dense['median_seconds'])}, {', '.join(cases)}. {found['dtype']}, batch "
        f"{found['batch']}, {', '.join(media)} and {prompt['text']} text tokens; "
        f"{machine['gpu'] or machine['processor']}, threads: {machine['threads']}. To repeat it:"
    )
    print_command(found["command"])


def print_verdict(demo: Demo) -> None:
    """How many answers of each method are right, or agree with dense, in one line."""
    totals, title = demo.totals(), "Right"
    if demo.asked[0].right is None:
        title, totals = "As dense", totals[1:]
    parts = [f"{total.method} {total.right} of {total.questions}" for total in totals]
    print_text(f"\n{title}: {', '.join(parts)}", style="bold")


def _cost_columns(cost: Outcome | Total, cut: int) -> list[str]:
    layers = [f"layer {layer}" for layer in (0, cut, len(cost.tokens_per_layer) - 1)]
    return [*layers, "FLOPs", "decoder", "prefill", "KV cache"]


def _cost_cells(cost: Outcome | Total, cut: int) -> list[str]:
    return [
        *(f"{cost.tokens_per_layer[layer]:.0f}" for layer in (0, cut, -1)),
        percent(cost.flops_ratio),
        seconds(cost.decoder_seconds),
        seconds(cost.prefill_seconds),
        size(cost.kv_bytes),
    ]


def _cell(console: Console, asked: Asked, outcome: Outcome) -> Text:
    """The answer behind a mark, which is there without colours too."""
    if asked.right is None and outcome is asked.outcomes[0]:
        return Text(outcome.answer)
    plain = not console.encoding.startswith("utf")
    fine = asked.is_right(outcome)
    marks = ("=≠", "=!") if asked.right is None else ("✓✗", "+x")
    mark = marks[plain][not fine]
    return Text(f"{mark} {outcome.answer}", style="green" if fine else "bold red")
