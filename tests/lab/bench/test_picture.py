"""Pictures of measurements, from those that were kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fastav_plugin.lab.bench.picture import _tick_labels, draw_bench

RESULTS = Path(__file__).parents[3] / "deploy/benchmarks/results"
KEPT = [path for path in sorted(RESULTS.glob("*.json")) if '"points"' in path.read_text()]


def texts(path: Path) -> list[str]:
    """What an SVG says: matplotlib notes each text before it draws its glyphs."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_every_kept_measurement_can_be_drawn(kept: Path, tmp_path: Path) -> None:
    found = json.loads(kept.read_text())
    path = tmp_path / "drawn.svg"
    draw_bench(path, found)
    said = texts(path)
    assert any(found["shape"] in text for text in said)
    assert {case["case"] for case in found["points"][0]["cases"]} <= {
        re.sub(r", batch \d+$", "", text) for text in said
    }


def test_lengths_are_four_panels_with_their_runs(tmp_path: Path) -> None:
    path = tmp_path / "lengths.svg"
    draw_bench(path, json.loads((RESULTS / "cpu-qwen2-0.5b-lengths.json").read_text()))
    said = texts(path)
    panels = ["first token, s", "later token, s", "Peak memory of the call, MB", "KV cache, MB"]
    for panel in panels:
        assert any(text.endswith(panel) for text in said), panel
    assert any("one run of each case and length" in text for text in said)
    # 16k and 20k lie too near for two labels.
    assert said.count("16k") == 4
    assert "20k" not in said


def test_labels_that_would_touch_are_left_out() -> None:
    assert _tick_labels([500, 975, 2084, 15_961, 20_400, 32_054]) == [
        *("500", "1k", "2k", "16k", "", "32k")
    ]
