"""Measured figures on the pages are those of the result files beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from transformers import LlavaConfig
from typer.testing import CliRunner

from fastav_plugin import FastAVConfig
from fastav_plugin.cli import app
from fastav_plugin.model_overrides.videollama2 import VideoLlama2Config
from fastav_plugin.pruning.prompt import Reason
from fastav_plugin.settings.presets import PRESETS
from tests.pages.markdown import PAGES, README, ROOT, Page

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


METHODS_PAGE = PAGES["deploy/examples/which_method.md"]
PAPERS = PAGES["fastav_plugin/lab/papers/README.md"].text


def cells(line: str) -> list[str]:
    """What stands in the cells of a line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table_of(page: Page, heading: str) -> list[list[str]]:
    """Lines of the table whose first column has this heading, without it."""
    _, _, rest = page.text.partition(f"| {heading} |")
    lines = rest.partition("\n\n")[0].split("\n")[2:]
    assert lines
    return [cells(line) for line in lines]


def measured(label: str, questions: int) -> tuple[str, str]:
    """Right answers and FLOPs of a setting on the papers page, where it asks so many questions."""
    targets = PAPERS.index("**Accuracy targets")
    text = PAPERS[targets:] if questions == 1002 else PAPERS[:targets]
    rows = [cells(line) for line in text.splitlines() if line.startswith(f"| {label} |")]
    # Some tables have a column more behind these.
    found = {(row[1].partition(" ")[0], row[10]) for row in rows if len(row) > 10}
    assert len(found) == 1, (label, found)
    return found.pop()


def test_the_settings_of_the_toy() -> None:
    rows = table_of(METHODS_PAGE, "Setting of the toy")
    assert len(rows) >= 8
    for label, right, flops in rows:
        assert (right, flops) == measured(label, 1002), label


def test_later_cuts_of_the_toy() -> None:
    for layer, right, flops, *_ in table_of(METHODS_PAGE, "Layer of 8"):
        label = f"cut at layer {layer.partition(',')[0]}"
        assert (right, flops) == measured(label, 300), label


@pytest.fixture(scope="module")
def inspect(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """FLOPs of each method as `fastav inspect` counts them, from a config.json of full size."""
    configs: dict[str, Any] = {"videollama2": VideoLlama2Config(), "llava": LlavaConfig()}
    folders = {name: tmp_path_factory.mktemp(name) for name in configs}
    for name, config in configs.items():
        config.save_pretrained(folders[name])

    def run(name: str, *options: str) -> dict[str, str]:
        result = CliRunner().invoke(app, ["inspect", str(folders[name]), *options, "--json"])
        assert result.exit_code == 0, result.output
        plans = json.loads(result.stdout)["plans"]
        return {plan["method"]: percent(plan["flops_ratio"]) for plan in plans}

    return run


PAPERS_PROMPT = ("--text", "50", "--video", "676", "--audio", "1496")


@pytest.mark.parametrize("name", PRESETS)
def test_presets(inspect: Any, name: str) -> None:
    right, _, flops = re.findall(
        r"([\d.]+) % right .*?dense ([\d.]+)\) at ([\d.]+ %)", PRESETS[name].figures
    )[0]
    (av,) = beside_dense(inspect("videollama2", *PAPERS_PROMPT, "--preset", name))
    (picture,) = beside_dense(inspect("llava", "--text", "40", "--image", "576", "--preset", name))
    (short,) = [row[2:] for row in table_of(README, "Preset") if row[0] == f"`{name}`"]
    assert short == [av, f"{right} % at {flops} of the FLOPs"]
    (long,) = [row[2:] for row in table_of(METHODS_PAGE, "Preset") if row[0] == name]
    assert long == [right, flops, av, picture]


def beside_dense(found: dict[str, str]) -> list[str]:
    """FLOPs of what is inspected beside dense."""
    return [share for name, share in found.items() if name != "dense"]


def test_the_costs_of_ratios(inspect: Any) -> None:
    for ratio, *shown in table_of(METHODS_PAGE, "Ratio"):
        found = inspect(
            "videollama2", *PAPERS_PROMPT, "--keep-ratio", ratio, "--audio-keep-ratio", ratio
        )
        assert shown == [found[name] for name in ("fastav", "divprune", "fastav+divprune")]


def test_the_costs_of_later_cuts(inspect: Any) -> None:
    half = ("--keep-ratio", "0.5", "--audio-keep-ratio", "0.5")
    for *_, layer, alone, both in table_of(METHODS_PAGE, "Layer of 8"):
        cut = f"global_layer={layer.partition(',')[0]}"
        found = inspect("videollama2", *PAPERS_PROMPT, *half, "--set", cut)
        assert [alone, both] == [found["fastav"], found["fastav+divprune"]]


def test_the_costs_of_a_picture(inspect: Any) -> None:
    page = PAGES["deploy/examples/faq.md"].text
    found = inspect("llava", "--text", "40", "--image", "576", "--keep-ratio", "0.5")
    words = " ".join(page.split())
    for name, before in (
        ("fastav", "are left: "),
        ("divprune", "DivPrune at 0.5 takes "),
        ("fastav+divprune", "both "),
    ):
        assert f"{before}{found[name]}" in words


def test_the_faq_names_every_reason() -> None:
    page = PAGES["deploy/examples/faq.md"].text
    for reason in Reason:
        assert f"\n| {reason.sentence(FastAVConfig().min_media_tokens)} |" in page
