"""What the pictures show, read from the numbers they draw and from their pixels."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from fastav_plugin import ConfigError, UnsupportedError
from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.analysis.drawing.clip import Stage, draw_pruning
from fastav_plugin.analysis.drawing.layers import draw_layers
from fastav_plugin.analysis.drawing.page import check_drawing
from fastav_plugin.analysis.drawing.tradeoff import Point, cost_range, draw_tradeoff, read_points
from fastav_plugin.display.palette import MODALITIES
from fastav_plugin.installation import install_hint


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return np.asarray(picture, np.uint8)


def area(picture: npt.NDArray[np.uint8], colour: str) -> int:
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int((picture == wanted).all(axis=2).sum())


def test_bars_are_as_high_as_the_counts(tmp_path: Path) -> None:
    path = tmp_path / "layers.png"
    counts = {"text": [10, 10], "video": [40, 20], "audio": [60, 15]}
    draw_layers(path, [Outcome("cut", "", [110, 45], counts, flops_ratio=0.5)], title="a cut")
    picture = pixels(path)[200:]
    text, video, audio = (area(picture, MODALITIES[name]) for name in ("text", "video", "audio"))
    assert video / audio == pytest.approx(60 / 75, rel=0.05)
    assert text / audio == pytest.approx(20 / 75, rel=0.1)
    assert area(picture, MODALITIES["image"]) == 0


def test_large_frames_are_drawn_as_small_ones(tmp_path: Path) -> None:
    """At the size of a picture to look at, whatever the clip's."""
    kept = np.zeros((2, 3, 4), bool)
    kept[:, 1] = True
    stages = [Stage("Prompt", "", kept, np.ones(4, bool))]
    blue = []
    for name, scale in (("small", 28), ("large", 720)):
        frames = np.zeros((2, 3 * scale, 4 * scale, 3), np.uint8)
        frames[..., 2] = 255
        path = tmp_path / f"{name}.png"
        waveform = np.ones(16_000, np.float32)
        tracemalloc.start()
        draw_pruning(path, frames, waveform, stages, seconds=1, title="a", subtitle="b")
        assert tracemalloc.get_traced_memory()[1] < 100e6
        tracemalloc.stop()
        blue.append(area(pixels(path), "#0000ff"))
    assert blue[1] == pytest.approx(blue[0], rel=0.1)
    assert blue[0] > 1000


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    points = [Point("dense", 1, (1, 1, 1)), Point("a", 0.5, (0.9, 0.8, 0.95))]
    for name in ("one/same.svg", "two/same.svg"):
        draw_tradeoff(tmp_path / name, points, title="t", about="a")
    first, second = (tmp_path / name / "same.svg" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_points_of_both_kinds_of_evaluation(tmp_path: Path) -> None:
    accuracy = {"mean": 0.9, "low": 0.8, "high": 1.0}
    rows = [{"setting": "fastav", "accuracy": accuracy, "flops_ratio": 0.5}]
    expected = [Point("fastav", 0.5, (0.9, 0.8, 1.0))]
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"sets": [{"held_out": "clips", "rows": rows}]}))
    assert read_points(path) == {"held-out clips": expected}
    path.write_text(json.dumps({"tables": [{"title": "Table 4", "rows": rows}]}))
    assert read_points(path) == {"Table 4": expected}
    path.write_text(json.dumps({"sets": [{"task": "count", "rows": rows}]}))
    assert read_points(path) == {"count": expected}
    path.write_text(json.dumps({"sets": [{"task": "captions", "rows": [{"cider_d": {}}]}]}))
    with pytest.raises(ConfigError, match="holds no accuracy"):
        read_points(path)
    for text in ("[]", "{}", '{"sets": [{"rows": [{"accuracy": 1}], "held_out": "clips"}]}'):
        path.write_text(text)
        with pytest.raises(ConfigError, match="not what `fastav eval --json` prints"):
            read_points(path)
    path.write_text("no")
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        read_points(path)


def test_the_cost_range_of_a_table() -> None:
    points = [Point(str(flops), flops, (1, 1, 1)) for flops in (0.75, 1, 0.25)]
    assert cost_range(points) == 0.75


def test_dense_alone_is_no_tradeoff(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="besides dense"):
        draw_tradeoff(tmp_path / "a.png", [Point("dense", 1, (1, 1, 1))], title="t", about="a")


def test_what_drawing_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="written as .png or .svg"):
        check_drawing("a.jpg")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnsupportedError, match=re.escape(install_hint("viz"))):
        check_drawing("a.png")
