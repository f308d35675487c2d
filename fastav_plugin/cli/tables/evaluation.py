"""The tables of an evaluation."""

from collections.abc import Callable, Sequence
from typing import Any

from fastav_plugin.cli.console import note
from fastav_plugin.cli.tables.layout import print_table
from fastav_plugin.display.units import percent, seconds, size
from fastav_plugin.lab.testbed.tasks import TASKS


def print_summary(part: dict[str, Any]) -> None:
    """Two tables of one held-out set: right answers of each task, and what they cost."""
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
    names = ["setting", *tasks, "all", "change"]
    print_table(names, [*cells, ["chance", *chances, "", ""]], title=title)
    columns = {name: _COSTS[name] for name in ("setting", "agree", "KL", "tokens")}
    columns["visual"] = lambda row: percent(row["kept"]["visual"])
    columns["audio"] = lambda row: percent(row["kept"]["audio"])
    title = (
        "\nAgreement with dense in %, KL of the answer in nats, tokens of an average layer "
        "and the shares kept"
    )
    # These answers are one token long, of which the agreement says all.
    costs = {name: cell for name, cell in _COSTS.items() if name != "8 alike"}
    _print_rows(columns | costs, rows, title)
    _note_uncut(rows)


def print_task(part: dict[str, Any]) -> None:
    """One table of a task of `summarise_tasks`: how well each setting answers, and its cost."""
    rows = part["rows"]
    columns = {"setting": _COSTS["setting"]}
    if "accuracy" in rows[0]:
        columns["right"] = lambda row: _interval(row["accuracy"])
        columns["of dense"] = lambda row: _percent(row["share_of_dense"])
    if "cider_d" in rows[0]:
        columns["CIDEr-D"] = lambda row: _interval(row["cider_d"])
        columns["of its dense"] = lambda row: _percent(row["cider_d_share_of_dense"])
    if rows[0]["binary"]:
        for name, key in (("prec.", "precision"), ("recall", "recall"), ("F1", "f1")):
            columns[name] = lambda row, key=key: _percent(row["binary"][key])  # type: ignore[misc]
        columns["yes"] = lambda row: _percent(row["binary"]["yes_rate"])
    title = (
        f"\n{part['task']}: {part['questions']} questions about {part['clips']} clips. "
        "In %, with 95 % intervals; KL in nats and '8 alike', as dense's first tokens, over "
        "8 answer tokens"
    )
    _print_rows(columns | _COSTS, rows, title)
    if part["task"] != "all":
        _note_uncut(rows)
    for row in rows:
        if row["unread"]:
            note(f"{part['task']}, {row['setting']}: {row['unread']} answers were not understood.")


def _print_rows(
    columns: dict[str, Callable[[dict[str, Any]], str]], rows: Sequence[dict[str, Any]], title: str
) -> None:
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    print_table(list(columns), cells, title=title)


def _note_uncut(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        if row["uncut"]:
            note(f"{row['setting']}: nothing was cut in {row['uncut']} questions.")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _interval(found: dict[str, Any], sign: str = "") -> str:
    mean, low, high = (100 * found[name] for name in ("mean", "low", "high"))
    # Adding zero takes the sign off a rounded -0.
    return f"{round(mean, 1) + 0.0:{sign}.1f}\n{round(low)}..{round(high)}"


#: What every table says of a setting.
_COSTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "setting": lambda row: str(row["setting"]),
    "agree": lambda row: _interval(row["agreement"]),
    "8 alike": lambda row: _interval(row["same_tokens"]),
    "KL": lambda row: f"{row['kl']['mean']:.3f}",
    "tokens": lambda row: f"{row['tokens']:.0f}",
    "FLOPs": lambda row: percent(row["flops_ratio"]),
    "KV": lambda row: size(row["kv_bytes"]),
    "prefill": lambda row: seconds(row["prefill_seconds"]),
}
