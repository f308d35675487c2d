"""The frontier's figures and its picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastav_plugin import ConfigError
from fastav_plugin.analysis.drawing.frontier import (
    Measured,
    draw_frontier,
    frontier,
    read_measurements,
)


def row(name: str, mean: float, flops: float, tokens: float, **others: Any) -> dict[str, Any]:
    ends = {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}
    return {
        "setting": name,
        "accuracy": ends,
        "flops_ratio": flops,
        "tokens": tokens,
        **others,
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = [
        row("dense", 0.8, 1.0, 200),
        row("good", 0.8, 0.75, 154, random={"mean": 0.4}),
        row("better", 0.76, 0.49, 100, random={"mean": 0.2}),
        row("bad", 0.2, 0.60, 120),
        row("cheap", 0.4, 0.2, 51),
    ]
    bound = [rows[0], row("told", 0.8, 0.2, 50)]
    found = {
        "suite": "real-lm",
        "passages": "short",
        "questions": 60,
        "clips": 15,
        "tables": [
            {"key": "methods-77", "rows": rows},
            {"key": "again", "rows": rows[:2]},
            {"key": "upper-bound", "rows": bound},
        ],
    }
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found))
    return path


def test_shares_are_of_dense_and_the_best_is_within_its_budget(path: Path) -> None:
    found = read_measurements(path)
    assert found.arena == "real-lm short"
    assert [setting.name for setting in found.settings] == [
        "good",
        "better",
        "bad",
        "cheap",
        "told",
    ]
    good = found.settings[0]
    assert good.retained == pytest.approx((1, 0.9375, 1.0625))
    assert good.tokens == 0.77
    assert good.random == pytest.approx(0.5)
    best = {budget: setting.name for budget, setting in found.best().items()}
    # What knows the answer is no method.
    assert best == {0.77: "good", 0.65: "better", 0.5: "better", 0.25: "cheap"}
    line = frontier([setting for setting in found.settings if not setting.bound])
    assert [setting.name for setting in line] == ["cheap", "better", "good"]


def test_equals_are_decided_by_their_cost() -> None:
    one, two = (
        Measured(name, (1.0, 1.0, 1.0), flops, 0.5) for name, flops in (("a", 0.5), ("b", 0.4))
    )
    assert frontier([one, two]) == [two]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_best_are_named_in_the_picture(path: Path, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    output = tmp_path / f"frontier{suffix}"
    found = read_measurements(path)
    draw_frontier(output, [found, found], title="A title")
    assert output.stat().st_size > 5000


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"tables": [{"rows": []}], "suite": "x", "questions": 1, "clips": 1}')
    with pytest.raises(ConfigError, match="--json"):
        read_measurements(path)
