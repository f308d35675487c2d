from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import Result

from fastav_plugin.display.palette import BLUE

Invoke = Callable[..., Result]
Fail = Callable[..., str]


def blue(path: Path) -> int:
    """Pixels in the colour of what goes on."""
    wanted = [int(BLUE[place : place + 2], 16) for place in (1, 3, 5)]
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return int((np.abs(picture.astype(int) - wanted).max(axis=2) < 4).sum())


@pytest.fixture
def scene(checkpoint: Path, clip: Path) -> tuple[object, ...]:
    return ("--model", checkpoint, "--video", clip)


@pytest.mark.parametrize("kind", ["attention", "layers"])
def test_a_prompt_is_drawn(
    invoke: Invoke, scene: tuple[object, ...], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "made" / f"{kind}.png"
    result = invoke("visualize", kind, *scene, "-o", path)
    assert result.exit_code == 0, result.output
    assert f"Written: {path}" in result.stderr.replace("\n", "")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_what_is_dropped_turns_grey(
    invoke: Invoke, scene: tuple[object, ...], tmp_path: Path
) -> None:
    areas = []
    for ratio in (0.75, 0.25):
        path = tmp_path / f"{ratio}.png"
        ratios = ("--keep-ratio", ratio, "--audio-keep-ratio", ratio)
        result = invoke("visualize", "pruning", *scene, "-m", "divprune", *ratios, "-o", path)
        assert result.exit_code == 0, result.output
        areas.append(blue(path))
    assert areas[0] > 1.2 * areas[1] > 0


def test_accuracy_against_flops(invoke: Invoke, fail: Fail, tmp_path: Path) -> None:
    accuracy = {"mean": 0.9, "low": 0.8, "high": 1.0}
    rows = [{"setting": "fastav", "accuracy": accuracy, "flops_ratio": 0.5}]
    found = tmp_path / "found.json"
    found.write_text(json.dumps({"sets": [{"held_out": "clips", "rows": rows}]}))
    path = tmp_path / "made.svg"
    assert invoke("visualize", "tradeoff", found, "-o", path).exit_code == 0
    assert b"<svg" in path.read_bytes()
    found.write_text(
        json.dumps({"tables": [{"title": title, "rows": rows} for title in ("Layer", "P")]})
    )
    both = tmp_path / "both.svg"
    assert (
        invoke("visualize", "tradeoff", found, "--table", 1, "--table", 2, "-o", both).exit_code
        == 0
    )
    assert both.read_bytes() != path.read_bytes()
    assert "holds 1: Layer; 2: P; got `--table` 3" in fail(
        "visualize", "tradeoff", found, "--table", 3
    )


def test_wrong_options(
    fail: Fail, scene: tuple[object, ...], tmp_path: Path, checkpoint: Path
) -> None:
    output = ("-o", tmp_path / "a.png")
    assert "`--layers` takes numbers" in fail("visualize", "attention", "--layers", "all", *output)
    assert "layers 0..7, got [9]" in fail("visualize", "attention", *scene, "--layers", "9")
    assert ".png or .svg" in fail("visualize", "layers", *scene, "-o", tmp_path / "a.gif")
    assert "Dense drops nothing" in fail("visualize", "pruning", *scene, "-m", "dense", *output)
    assert not (tmp_path / "a.png").exists()
