"""The tables of an evaluation."""

from __future__ import annotations

from typing import Any

from fastav_plugin.cli.console import note, percent, print_table, seconds, size
from fastav_plugin.testbed.tasks import TASKS


def print_summary(part: dict[str, Any]) -> None:
    """Two tables of one held-out set: right answers of each task, and what they cost.

    Args:
        part: name of the set, number of questions and clips, and the rows of `summarise`.
    """
    rows = part["rows"]
    tasks = [task for task in TASKS if task in rows[0]["tasks"]]
    cells = [
        [row["setting"], *(_interval(row["tasks"][task]) for task in tasks)]
        + [_interval(row["accuracy"]), _interval(row["accuracy_change"], sign="+")]
        for row in rows
    ]
    chances = [f"{100 * rows[0]['tasks'][task]['chance']:.0f}" for task in tasks]
    title = (
        f"Held-out {part['held_out']}: {part['questions']} questions about {part['clips']} clips. "
        "Right answers in %, with 95 % intervals"
    )
    columns = ["setting", *tasks, "all", "change"]
    print_table(columns, [*cells, ["chance", *chances, "", ""]], title=title)
    costs = [
        [
            row["setting"],
            _interval(row["agreement"]),
            f"{row['kl']['mean']:.3f}",
            f"{row['tokens']:.0f}",
            percent(row["kept"]["visual"]),
            percent(row["kept"]["audio"]),
            percent(row["flops_ratio"]),
            size(row["kv_bytes"]),
            seconds(row["prefill_seconds"]),
        ]
        for row in rows
    ]
    columns = ["setting", "agree", "KL", "tokens", "visual", "audio", "FLOPs", "KV", "prefill"]
    print_table(
        columns,
        costs,
        title="\nAgreement with dense in %, KL of the answer token in nats, tokens of an average "
        "layer and the shares kept",
    )
    for row in rows:
        if row["uncut"]:
            note(f"{row['setting']}: nothing was cut in {row['uncut']} questions.")


def _interval(found: dict[str, Any], sign: str = "") -> str:
    mean, low, high = (100 * found[name] for name in ("mean", "low", "high"))
    # Adding zero takes the sign off a rounded -0.
    return f"{round(mean, 1) + 0.0:{sign}.1f}\n{round(low)}..{round(high)}"
