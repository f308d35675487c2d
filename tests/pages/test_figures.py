"""Measured figures on the pages are those of the result files beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pages.markdown import PAGES, README, ROOT

RESULTS = ROOT / "deploy" / "benchmarks" / "results"
SPEED = PAGES["deploy/benchmarks/README.md"]


def cases(name: str) -> list[dict[str, Any]]:
    """What was measured at the only prompt length of a file."""
    (point,) = json.loads((RESULTS / name).read_text())["points"]
    return list(point["cases"])


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def columns(case: dict[str, Any]) -> str:
    """A line of a table of the speed page after its label."""
    ratio, pruner, own = percent(case["ratio"]), "", case["pruner_seconds"]
    if case["iqr_ratio"]:
        ratio += f" ({percent(case['iqr_ratio'])})"
    if own:
        pruner = f" {1000 * own:.0f} ms, {percent(own / case['median_seconds'])}"
    first = f"{case['median_seconds']:.2f} s ({case['iqr_seconds']:.2f} s)"
    rate = f"{1 / case['decode_seconds']:.1f}/s"
    memory = f"{case['kv_bytes'] / 1e6:.1f} MB"
    return f"{first} | {ratio} | {percent(case['theory'])} |{pruner} | {rate} | {memory} |"


@pytest.mark.parametrize("name", ["cpu-qwen2-7b.json", "cpu-qwen2-0.5b.json"])
def test_the_speed_page(name: str) -> None:
    assert f"`deploy/benchmarks/results/{name}`" in SPEED.text
    missing = [columns(case) for case in cases(name) if f"| {columns(case)}\n" not in SPEED.text]
    assert not missing


def test_the_readme() -> None:
    found = cases("cpu-qwen2-7b.json")
    assert [case["case"] for case in found] == ["dense", "fastav", "fastav+divprune"]
    for case in found:
        _, ratio, theory, _, rate, memory, _ = (cell.strip() for cell in columns(case).split("|"))
        first, ratio = f"{case['median_seconds']:.1f} s", ratio.partition(" (")[0]
        assert f" | {first} | {ratio} | {theory} | {rate} | {memory} |" in README.text


def test_the_readme_quotes_the_papers_page() -> None:
    """What is recommended is what the tables on the bundled model say."""
    lines = PAGES["fastav_plugin/lab/papers/README.md"].text.splitlines()
    for label, right, flops in (
        ("dense", "99.9 %", "100.0 %"),
        ("divprune 50 %", "99.9 %", "44.6 %"),
        ("divprune 50 % + fastav", "97.8 %", "30.6 %"),
        ("divprune 50 % + fastav, cut at layer 4", "81.0 %", "25.7 %"),
    ):
        (line,) = [
            line for line in lines if line.startswith(f"| {label} | {right.removesuffix(' %')} (")
        ]
        assert line.endswith(f"| {flops} |")
        assert right in README.text and (label == "dense" or flops in README.text)
