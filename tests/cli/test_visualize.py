from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from fastav_plugin.display.palette import MODALITIES
from tests.support.checkpoints import save_llava

Invoke = Callable[..., Result]
InvokeJson = Callable[..., Any]
Fail = Callable[..., str]
ROOT = Path(__file__).parents[2]


def page_data(path: Path) -> Any:
    """The data of a page."""
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def kept_area(path: Path) -> int:
    """Pixels in the colour of audio tokens that are kept."""
    colour = MODALITIES["audio"]
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
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


def test_layers_as_json(invoke_json: InvokeJson, scene: tuple[object, ...], tmp_path: Path) -> None:
    path = tmp_path / "layers.png"
    found = invoke_json("visualize", "layers", *scene, "-m", "divprune", "-o", path)
    assert found["files"] == [str(path)] and path.is_file()
    assert (found["model"], found["question"]) == (str(scene[1]), "When is the hum heard?")
    dense, pruned = found["outcomes"]
    assert (dense["method"], pruned["method"]) == ("dense", "divprune")
    assert isinstance(pruned["answer"], str)
    for outcome in found["outcomes"]:
        by_kind = zip(*outcome["modality_per_layer"].values(), strict=True)
        assert [sum(counts) for counts in by_kind] == outcome["tokens_per_layer"]
        assert sum(outcome["prefill_macs_per_layer"]) == outcome["prefill_macs"]
        assert sum(outcome["kv_bytes_per_layer"]) == outcome["kv_bytes"]


def test_attention_as_json(
    invoke_json: InvokeJson, scene: tuple[object, ...], tmp_path: Path
) -> None:
    path = tmp_path / "attention.svg"
    found = invoke_json("visualize", "attention", *scene, "--layers", "1,3", "-o", path)
    assert (found["files"], found["layers"], found["alpha"]) == ([str(path)], [1, 3], 0.5)
    assert set(found["shares"]) == {
        *("last_row", "column_sums", "rollout_last_row", "rollout_column_sums")
    }
    for layers in found["shares"].values():
        assert [set(shares) for shares in layers] == [{"text", "video", "audio"}] * 2
        assert [sum(shares.values()) for shares in layers] == pytest.approx([1, 1], abs=1e-5)
    said = path.read_text()
    for shares in found["shares"]["last_row"]:
        assert all(f"<!-- {100 * share:.0f} % -->" in said for share in shares.values())
    # No tick of the axis lies above what is drawn.
    assert "<!-- 100 % -->" not in said


def test_pruning_as_json(
    invoke_json: InvokeJson, scene: tuple[object, ...], tmp_path: Path
) -> None:
    path = tmp_path / "pruning.png"
    options = ("-m", "divprune", "--keep-ratio", 0.5, "--audio-keep-ratio", 0.25)
    found = invoke_json("visualize", "pruning", *scene, *options, "-o", path)
    assert found["files"] == [str(path)]
    first, last = found["stages"]
    assert first["title"] == "Prompt" and last["title"] == "Entrance"
    pruned = found["outcomes"][1]["modality_per_layer"]
    for kind, ratio in (("video", 0.5), ("audio", 0.25)):
        assert last[kind] == pruned[kind][-1] == pytest.approx(ratio * first[kind], abs=1)
    assert last["cost"].startswith("layers 0 to 7: ")


def test_a_page_shows_what_json_says(
    invoke_json: InvokeJson, scene: tuple[object, ...], tmp_path: Path
) -> None:
    path = tmp_path / "made" / "clip.html"
    question = "Is the hum heard? </script>"
    options = ("-m", "fastav", "-m", "divprune", "--max-new-tokens", 2, "--question", question)
    found = invoke_json("visualize", "explore", *scene, *options, "-o", path)
    assert found["files"] == [str(path)]
    data = page_data(path)
    assert (data["question"], len(data["pictures"])) == (question, found["pictures"])
    assert data["sound"]["seconds"] == pytest.approx(2, abs=0.1)
    for shown, outcome in zip([data["dense"], *data["methods"]], found["outcomes"], strict=True):
        assert shown["answer"] == outcome["answer"]
        assert shown["tokens"] == outcome["tokens_per_layer"]
        assert shown["macs"] == outcome["prefill_macs_per_layer"]
        assert shown["kv_bytes"] == outcome["kv_bytes_per_layer"]
        layers = range(len(shown["tokens"]))
        assert shown["tokens"] == [
            sum(until > layer for until in shown["until"]) for layer in layers
        ]


def test_a_page_of_sound_alone(
    invoke_json: InvokeJson,
    checkpoint: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a page needs no matplotlib."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = tmp_path / "sound.html"
    scene = ("--model", checkpoint, "--audio", clip, "--max-new-tokens", 2)
    found = invoke_json("visualize", "explore", *scene, "-m", "divprune", "-o", path)
    assert found["pictures"] == 0
    data = page_data(path)
    assert set(found["outcomes"][0]["modality_per_layer"]) == {"text", "audio"}
    assert len(data["sound"]["positions"]) == data["dense"]["modalities"]["audio"][0]


def test_images_of_a_model_that_takes_no_video(
    invoke_json: InvokeJson, fail: Fail, tmp_path: Path
) -> None:
    """Every command takes `--image`, as generate does; LLaVA takes nothing else."""
    save_llava(tmp_path / "llava")
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((96, 96, 3), 90, np.uint8)).save(photo)
    scene = ("--model", tmp_path / "llava", "--image", photo)
    page = tmp_path / "photo.html"
    found = invoke_json("visualize", "explore", *scene, "-m", "divprune", "-o", page)
    assert found["pictures"] == 1
    (picture,) = page_data(page)["pictures"]
    assert (picture["kind"], picture["grid"]) == ("image", [12, 12])
    for command in ("layers", "attention"):
        drawn = tmp_path / f"{command}.png"
        assert invoke_json("visualize", command, *scene, "-o", drawn)["files"] == [str(drawn)]
    refused = fail("visualize", "pruning", *scene, "-o", tmp_path / "a.png")
    assert "`fastav visualize explore`" in refused
    model = ("--model", tmp_path / "llava")
    clip = fail("visualize", "explore", *model, "-m", "divprune", "-o", page)
    assert clip.endswith("takes no video, only images. Give `--image`.")


def test_generate_writes_the_page(
    invoke: Invoke, fail: Fail, scene: tuple[object, ...], tmp_path: Path
) -> None:
    path = tmp_path / "answer.html"
    options = ("--question", "Which sound is heard?", "--max-new-tokens", 2)
    result = invoke("generate", *scene, *options, "-m", "divprune", "--html", path, "--json")
    assert result.exit_code == 0, result.output
    (dense, pruned) = json.loads(result.stdout)["outcomes"]
    assert f"Written: {path}" in result.stderr.replace("\n", "")
    data = page_data(path)
    assert data["model"] == str(scene[1])
    assert data["dense"]["answer"] == dense["answer"]
    assert [method["tokens"] for method in data["methods"]] == [pruned["tokens_per_layer"]]
    refused = fail("generate", *scene, *options, "--html", tmp_path / "answer.png")
    assert "written as .html" in refused


def test_kept_measurements_are_drawn_again(
    invoke_json: InvokeJson, fail: Fail, tmp_path: Path
) -> None:
    kept = ROOT / "deploy/benchmarks/results/cpu-qwen2-0.5b-lengths.json"
    path = tmp_path / "lengths.png"
    found = invoke_json("visualize", "bench", kept, "-o", path)
    assert (found["files"], found["shape"]) == ([str(path)], "qwen2-0.5b")
    assert found["cases"] == ["dense", "fastav", "divprune", "fastav+divprune"]
    assert found["prompt_tokens"][-1] == 32_054
    # The picture of the page is this one, but for how another matplotlib smooths its lines.
    drawn, shown = (
        np.asarray(Image.open(name).convert("RGB"), int)
        for name in (path, kept.with_suffix(".png"))
    )
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < 3
    other = tmp_path / "other.json"
    for text in ("{}", "no", '{"points": []}'):
        other.write_text(text)
        line = fail("visualize", "bench", other, "-o", path)
        assert "not what `fastav bench --output` wrote" in line


def test_what_is_dropped_loses_its_colour(
    invoke: Invoke, scene: tuple[object, ...], tmp_path: Path
) -> None:
    areas = []
    for ratio in (0.75, 0.25):
        path = tmp_path / f"{ratio}.png"
        ratios = ("--keep-ratio", ratio, "--audio-keep-ratio", ratio)
        result = invoke("visualize", "pruning", *scene, "-m", "divprune", *ratios, "-o", path)
        assert result.exit_code == 0, result.output
        areas.append(kept_area(path))
    assert areas[0] > 1.2 * areas[1] > 0


def test_accuracy_against_flops(invoke: Invoke, fail: Fail, tmp_path: Path) -> None:
    accuracy = {"mean": 0.9, "low": 0.8, "high": 1.0}
    rows = [{"setting": "fastav", "accuracy": accuracy, "flops_ratio": 0.5}]
    found = tmp_path / "found.json"
    found.write_text(json.dumps({"sets": [{"held_out": "clips", "rows": rows}]}))
    path = tmp_path / "made.svg"
    drawn = invoke("visualize", "tradeoff", found, "-o", path, "--json")
    assert drawn.exit_code == 0
    assert b"<svg" in path.read_bytes()
    said = json.loads(drawn.stdout)
    assert said["files"] == [str(path)]
    point = {"name": "fastav", "flops": 0.5, "accuracy": [0.9, 0.8, 1.0]}
    assert (said["tables"], said["marked"]) == ({"held-out clips": [point]}, [])
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
    assert ".html or .htm" in fail("visualize", "explore", *scene, "-o", tmp_path / "a.png")
    assert "Dense drops nothing" in fail("visualize", "pruning", *scene, "-m", "dense", *output)
    assert not (tmp_path / "a.png").exists()
