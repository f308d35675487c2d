"""The table of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.cli.console import flops, percent, print_table, seconds, size
from fastav_plugin.lab.demo.run import Total


def print_outcomes(outcomes: Sequence[Outcome], cut: int, title: str = "") -> None:
    """One row per method: answer, tokens per stage, FLOPs, prefill time, KV bytes.

    Args:
        outcomes: dense first.
        cut: layer of FastAV's global cut.
        title: line above the table.
    """
    columns = ["method", "answer", *cost_columns(outcomes[0], cut)]
    cells = [[one.method, one.answer, *cost_cells(one, cut)] for one in outcomes]
    print_table(columns, cells, title=title, left=(0, 1), wrap=(1,))


def cost_columns(cost: Outcome | Total, cut: int) -> list[str]:
    """Headings of `cost_cells`; `cut` is the layer of FastAV's global cut."""
    layers = [f"layer {layer}" for layer in (0, cut, len(cost.tokens_per_layer) - 1)]
    return [*layers, "FLOPs", "of dense", "prefill", "KV cache"]


def cost_cells(cost: Outcome | Total, cut: int) -> list[str]:
    """Tokens that three layers see, FLOPs, prefill time and KV bytes."""
    return [
        *(f"{cost.tokens_per_layer[layer]:.0f}" for layer in (0, cut, -1)),
        flops(cost.macs),
        percent(cost.flops_ratio),
        seconds(cost.prefill_seconds),
        size(cost.kv_bytes),
    ]
