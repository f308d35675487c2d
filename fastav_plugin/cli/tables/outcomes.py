"""The table of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.cli.console import flops, percent, print_table, seconds, size


def print_outcomes(outcomes: Sequence[Outcome], cut: int, title: str = "") -> None:
    """One row per method: answer, tokens per stage, FLOPs, prefill time, KV bytes.

    Args:
        outcomes: dense first.
        cut: layer of FastAV's global cut.
        title: line above the table.
    """
    dense = outcomes[0]
    last = len(dense.tokens_per_layer) - 1
    columns = ["method", "answer", "layer 0", f"layer {cut}", f"layer {last}"]
    columns += ["FLOPs", "of dense", "prefill", "KV cache"]
    rows = [
        [
            outcome.method,
            outcome.answer,
            *(str(outcome.tokens_per_layer[layer]) for layer in (0, cut, last)),
            flops(outcome.macs),
            percent(outcome.flops_ratio),
            seconds(outcome.prefill_seconds),
            size(outcome.kv_bytes),
        ]
        for outcome in outcomes
    ]
    print_table(columns, rows, title=title, left=(0, 1), wrap=(1,))
