from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import Result

from fastav_plugin.demo import METHODS, steps


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "made"


def test_the_demonstration_end_to_end(invoke: Callable[..., Result], output: Path) -> None:
    result = invoke("demo", "--output", output, "--repeats", 1, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    written = json.loads((output / "report.json").read_text())
    assert written == {key: value for key, value in found.items() if key != "output"}
    assert "answers mean nothing" in found["notice"]
    dense, *pruned = found["outcomes"]
    assert [outcome["method"] for outcome in pruned] == list(METHODS)
    assert dense["flops_ratio"] == 1
    prompt = dense["tokens_per_layer"][0]
    assert prompt > 300
    for outcome in pruned:
        assert outcome["reason"] is None
        assert outcome["flops_ratio"] < 0.7
        assert outcome["kv_bytes"] < dense["kv_bytes"]
        assert outcome["tokens_per_layer"][-1] < prompt
        last = [counts[-1] for counts in outcome["modality_per_layer"].values()]
        assert sum(last) == outcome["tokens_per_layer"][-1]
    for kind in ("video", "audio"):  # DivPrune halves both before layer 0
        halved, whole = (outcome["modality_per_layer"][kind][0] for outcome in (pruned[1], dense))
        assert halved * 2 == whole
    with av.open(str(output / "clip.mp4")) as container:
        assert container.streams.video and container.streams.audio


def test_the_picture_greys_what_was_dropped(output: Path) -> None:
    with av.open(str(output / "pruning.png")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert picture.shape[1] > 1000
    colourful = (picture.max(axis=2) - picture.min(axis=2)) > 60
    rows = np.array_split(colourful[150:], 4)  # prompt, entrance, global cut, last layer
    amounts = [int(row.sum()) for row in rows]
    assert amounts == sorted(amounts, reverse=True)
    assert amounts[0] > 2 * amounts[-1] > 0


def test_the_table(invoke: Callable[..., Result], tmp_path: Path) -> None:
    result = invoke("demo", "--output", tmp_path, "--repeats", 1)
    assert result.exit_code == 0, result.output
    assert all(method in result.stdout for method in ("dense", *METHODS))
    assert "layer 4" in result.stdout
    assert "answers mean nothing" in result.stderr


@pytest.mark.parametrize(("module", "extra"), [("av", "media"), ("matplotlib.figure", "viz")])
def test_a_missing_extra_is_one_line_with_the_remedy(
    fail: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    module: str,
    extra: str,
) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "fastav_plugin.testbed.media", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    line = fail("demo", "--output", tmp_path, "--repeats", 1)
    assert f"pip install 'fastav-plugin[{extra}]'" in line


def test_steps_are_counted() -> None:
    from fastav_plugin.demo import run_demo

    assert steps(5) == 27
    assert run_demo.__doc__
