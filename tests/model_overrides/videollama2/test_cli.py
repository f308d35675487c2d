"""The command line on an official folder, without a conversion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from fastav_plugin.cli import app

QUESTION = ("--question", "What is heard?", "--max-new-tokens", 2, "--set", "min_media_tokens=1")


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        grey = np.full((48, 64, 3), 90, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ((), {"text": 24, "video": 16, "audio": 1496}),
        (("--frames", 4), {"text": 24, "video": 8, "audio": 1496}),
        (("--sound", "none"), {"text": 24, "video": 16}),
    ],
)
def test_generate(
    official: Path, heard: Path, options: tuple[Any, ...], counts: dict[str, int]
) -> None:
    result = invoke(
        "generate", "--model", official, "--video", heard, *QUESTION, *options, "--json"
    )
    assert result.exit_code == 0, result.output
    dense, fastav = json.loads(result.stdout)["outcomes"]
    found = {kind: layers[0] for kind, layers in dense["modality_per_layer"].items()}
    assert found == counts
    assert fastav["flops_ratio"] < 1


def test_generate_about_a_picture_or_a_sound(official: Path, picture: Path, heard: Path) -> None:
    for media in (("--image", picture), ("--audio", heard)):
        result = invoke("generate", "--model", official, *media, *QUESTION, "--json")
        assert result.exit_code == 0, result.output
    two = invoke("generate", "--model", official, "--image", picture, "--image", picture, *QUESTION)
    assert two.exit_code == 2
    assert "takes one picture, got 2" in two.stderr


def test_inspect_and_models(official: Path) -> None:
    listed = invoke("models", "--json")
    rows = {row["model_type"]: row for row in json.loads(listed.stdout)["families"]}
    rule = rows["videollama2_qwen2"]["default_rule"]
    assert rule == {"video": "all", "audio": "first 10 tokens"}


def test_its_layers_are_drawn(official: Path, heard: Path, tmp_path: Path) -> None:
    scene = ("--model", official, "--video", heard, *QUESTION[:2])
    path = tmp_path / "layers.png"
    options = ("-m", "fastav", "--rule", "audio=first 10 tokens", "--output", path)
    result = invoke("visualize", "layers", *scene, *options)
    assert result.exit_code == 0, result.output
    assert path.read_bytes().startswith(b"\x89PNG")
    refused = invoke("visualize", "pruning", *scene, "--output", path)
    assert refused.exit_code == 2
    assert "`fastav visualize explore` and `fastav visualize layers` draw any" in refused.stderr
