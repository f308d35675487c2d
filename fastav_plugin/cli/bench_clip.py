"""The part of fastav bench that runs a whole model on a clip."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from fastav_plugin.cli.console import percent, print_json, print_table, progress, seconds, size
from fastav_plugin.lab.bench.clip import PAPER, ClipPlan, describe_clip, run_clip_bench


def run_on_clip(plan: ClipPlan, json: bool) -> None:
    """Measure, then print a table or JSON.

    Raises:
        ConfigError: something in the plan cannot be measured.
    """
    plan.check()
    with progress("bench", plan.steps) as tick:
        found = describe_clip(plan, run_clip_bench(plan, tick))
    if json:
        print_json(found)
        return
    tokens = ", ".join(f"{count} {kind}" for kind, count in found["media_tokens"].items())
    title = (
        f"{plan.shape}, {found['parameters']:,} random weights in {plan.dtype}, "
        f"{plan.frames} frames: {tokens}, {plan.text} text; "
        f"threads: {found['machine']['threads']}, median of {plan.repeats}"
    )
    columns = ["method", "prefill", "of dense", "in theory", "with towers", "peak memory"]
    print_table(columns, [_row(case) for case in found["cases"]], title=title)
    for case in found["cases"]:
        runs = [(count, len(list(run))) for count, run in groupby(case["tokens_per_layer"])]
        counts = ", ".join(
            f"{count} x {times}" if times > 1 else str(count) for count, times in runs
        )
        print_table(
            ["", ""], [[f"{case['method']}: tokens per layer", counts]], left=(0, 1), wrap=(1,)
        )
    remark = (
        f"Towers: {seconds(found['encode_seconds'])}, the same for every method. The FastAV paper, "
        f"on a GPU: {percent(PAPER['flops_ratio'])} of the FLOPs; {PAPER['dense_seconds']} s and "
        f"{PAPER['dense_memory_gb']} GB dense, {PAPER['fastav_seconds']} s and "
        f"{PAPER['fastav_memory_gb']} GB pruned."
    )
    print_table([""], [[remark]], wrap=(0,))


def _row(case: dict[str, Any]) -> list[str]:
    peak = case["peak_bytes"]
    return [
        case["method"],
        seconds(case["prefill_seconds"]),
        percent(case["time_ratio"]),
        percent(case["flops_ratio"]),
        percent(case["time_ratio_with_towers"]),
        "" if peak is None else size(peak),
    ]
