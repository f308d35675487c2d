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
from fastav_plugin.analysis.drawing.tradeoff import (
    Point,
    cost_range,
    draw_curves,
    draw_tradeoff,
    read_extent,
    read_points,
)
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


def test_dropped_shapes_are_dimmed_and_not_whitened(tmp_path: Path) -> None:
    """A white shape that is dropped is dark, where it would stand out in grey."""
    kept = np.zeros((1, 2, 2), bool)
    kept[0, 0, 0] = True
    frames = np.zeros((1, 112, 112, 3), np.uint8)
    frames[..., 1] = 200  # kept: green; the shape is white
    frames[:, 60:100, 60:100] = 255
    bright = []
    for name, stage in (("kept", np.ones_like(kept)), ("dropped", kept)):
        path = tmp_path / f"{name}.png"
        stages = [Stage("Prompt", "", stage, np.ones(4, bool))]
        draw_pruning(
            path, frames, np.ones(4, np.float32), stages, seconds=1, title="a", subtitle="b"
        )
        strip = pixels(path)[110:, 275:][:100, :100]
        bright.append(int((strip.min(axis=2) > 200).sum()))
        assert (strip[10:40, 10:40] == (0, 200, 0)).all(axis=2).mean() > 0.9
    assert bright[0] > 500
    assert bright[1] == 0


def test_each_modality_has_its_colour_in_a_clip(tmp_path: Path) -> None:
    kept = np.zeros((2, 2, 2), bool)
    kept[0, 0] = True
    stages = [Stage("Cut", "", kept, np.array([True, False, False, False]), "layer 1: 8 %")]
    frames = np.full((2, 112, 112, 3), 120, np.uint8)
    path = tmp_path / "clip.png"
    waveform = np.ones(16_000, np.float32)
    text = "All that layer 1 sees of the clip"
    draw_pruning(
        path, frames, waveform, stages, seconds=1, title="a", subtitle="b", conclusion=text
    )
    picture = pixels(path)
    assert area(picture, MODALITIES["video"]) > 300
    assert area(picture, MODALITIES["audio"]) > 300
    svg = path.with_suffix(".svg")
    draw_pruning(svg, frames, waveform, stages, seconds=1, title="a", subtitle="b", conclusion=text)
    said = svg.read_text()
    assert f"<!-- {text} -->" in said
    assert "<!-- layer 1: 8 % -->" in said


def test_signs_of_other_scripts_warn_of_nothing(tmp_path: Path) -> None:
    """Warnings are errors here; without a font for them they are boxes."""
    outcome = Outcome("fastav", "", [3, 2], {"video": [3, 2]})
    draw_layers(tmp_path / "a.png", [outcome], title="日本語 \U0001f3b5 \u0939")
    assert (tmp_path / "a.png").stat().st_size > 1000
    draw_layers(tmp_path / "a.svg", [outcome], title="Is it $5 or $6?")
    assert "<!-- Is it $5 or $6? -->" in (tmp_path / "a.svg").read_text()


def test_counts_stand_on_the_bars(tmp_path: Path) -> None:
    path = tmp_path / "layers.svg"
    tokens = [341] * 5 + [39, 33, 29]
    outcome = Outcome("fastav", "", tokens, {"video": tokens}, flops_ratio=0.652)
    long = Outcome("slow", "", [2222] * 14 + list(range(736, 722, -1)), {"video": [1] * 28})
    draw_layers(path, [outcome, long], title="t")
    said = re.findall(r"<!-- (.*?) -->", path.read_text())
    assert [text for text in said if text in ("341", "39", "33", "29")] == ["341", "39", "29"]
    assert [text for text in said if text in ("2,222", "736", "723")] == ["2,222", "736", "723"]


def test_a_tradeoff_marks_its_break_and_its_star(tmp_path: Path) -> None:
    dense = Point("dense", 1, (1, 1, 1))
    line = [dense, Point("cut at layer 1", 0.2, (0.7, 0.6, 0.8)), Point("2", 0.4, (0.9, 0.8, 0.95))]
    star = Point("fastav+divprune", 0.165, (0.973, 0.954, 0.989))
    path = tmp_path / "curves.svg"
    draw_curves(path, {"Layer": line}, title="t", about="a", marked=[star])
    said = re.findall(r"<!-- (.*?) -->", path.read_text())
    assert {"axis cut off", "Layer", "fastav+divprune: 97.3 % at 16 %", "dense 100.0 %"} <= set(
        said
    )
    whole = [dense, Point("cut at layer 1", 0.2, (0.1, 0, 0.8))]
    draw_curves(path, {"Layer": whole}, title="t", about="a")
    assert "axis cut off" not in path.read_text()


def test_how_much_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    for found, said in [
        ({"questions": 1002, "clips": 256}, "1,002 questions about 256 clips"),
        ({"questions": 3}, "3 questions"),
        ({}, ""),
    ]:
        path.write_text(json.dumps(found))
        assert read_extent(path) == said


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
