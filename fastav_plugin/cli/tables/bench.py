"""The tables of a benchmark."""

from itertools import groupby
from typing import Any

from fastav_plugin.cli.tables.layout import print_facts, print_table, print_text
from fastav_plugin.display.units import percent, seconds, size
from fastav_plugin.lab.bench.clip import PAPER


def print_point(found: dict[str, Any], point: dict[str, Any]) -> None:
    """One row per case at one batch size and prompt length: a point of what `describe` found."""
    prompt, machine = point["prompt"], found["machine"]
    kinds = ", ".join(f"{prompt[k]} {k}" for k in ("image", "video", "audio") if prompt[k])
    title = (
        f"{found['shape']}, {found['dtype']}, batch {point['batch']}, {prompt['tokens']} tokens "
        f"({kinds}), {machine['gpu'] or machine['processor']}, threads: {machine['threads']}, "
        f"median of {found['repeats']} (interquartile range)"
    )
    columns = ["case", "first token", "of dense", "in theory", "pruner (of prefill)"]
    columns += ["later tokens", "KV", "peak memory", "logits"]
    print_table(columns, [_row(case) for case in point["cases"]], title=title, left=(0, 8))


def _row(case: dict[str, Any]) -> list[str]:
    pruned, step, peak = case["bit_identical"] is None, case["decode_seconds"], case["peak_bytes"]
    spent = case["pruner_seconds"]
    return [
        case["case"],
        f"{seconds(case['median_seconds'])} ({seconds(case['iqr_seconds'])})",
        f"{percent(case['ratio'])} ({percent(case['iqr_ratio'])})",
        percent(case["theory"]),
        f"{seconds(spent)} ({percent(spent / case['median_seconds'])})" if pruned else "",
        "" if step is None else f"{1 / step:.1f}/s",
        size(case["kv_bytes"]),
        "" if peak is None else size(peak),
        "" if pruned else "bit-identical" if case["bit_identical"] else "DIFFERENT",
    ]


def print_clip(found: dict[str, Any]) -> None:
    """One row per method for a whole model on a clip, as `describe_clip` found them."""
    tokens = ", ".join(f"{count} {kind}" for kind, count in found["media_tokens"].items())
    title = (
        f"{found['shape']}, {found['parameters']:,} random weights in {found['dtype']}, "
        f"{found['frames']} frames: {tokens}, {found['text']} text; "
        f"threads: {found['machine']['threads']}, median of {found['repeats']}"
    )
    columns = ["method", "prefill", "of dense", "in theory", "with encoders", "peak memory"]
    print_table(columns, [_clip_row(case) for case in found["cases"]], title=title)
    for case in found["cases"]:
        runs = [(count, len(list(run))) for count, run in groupby(case["tokens_per_layer"])]
        counts = [f"{count} x {times}" if times > 1 else str(count) for count, times in runs]
        print_facts({f"{case['method']}: tokens per layer": ", ".join(counts)})
    remark = (
        f"Encoders: {seconds(found['encode_seconds'])}, the same for every method. The FastAV "
        f"paper, on a GPU: {percent(PAPER['flops_ratio'])} of the FLOPs; "
        f"{PAPER['dense_seconds']} s and {PAPER['dense_memory_gb']} GB dense, "
        f"{PAPER['fastav_seconds']} s and {PAPER['fastav_memory_gb']} GB pruned."
    )
    print_text(remark)


def _clip_row(case: dict[str, Any]) -> list[str]:
    peak = case["peak_bytes"]
    return [
        case["method"],
        seconds(case["prefill_seconds"]),
        percent(case["time_ratio"]),
        percent(case["flops_ratio"]),
        percent(case["time_ratio_with_towers"]),
        "" if peak is None else size(peak),
    ]
