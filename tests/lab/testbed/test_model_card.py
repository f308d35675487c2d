"""The model card beside the weights."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml  # type: ignore[import-untyped]
from safetensors import safe_open

from fastav_plugin.lab.testbed.model import MODEL_PATH

CARD = (MODEL_PATH / "README.md").read_text(encoding="utf-8")


def test_the_front_matter() -> None:
    _, front, body = CARD.split("---\n", 2)
    fields = yaml.safe_load(front)
    config = json.loads((MODEL_PATH / "config.json").read_text())
    assert fields["license"] == "apache-2.0"
    assert fields["library_name"] == "transformers"
    assert config["model_type"] in fields["tags"]
    for heading in ("Use", "Training data", "Accuracy", "Limits"):
        assert f"\n## {heading}\n" in body


def test_the_sizes() -> None:
    config = json.loads((MODEL_PATH / "config.json").read_text())
    with safe_open(MODEL_PATH / "model.safetensors", "pt") as file:
        parameters = sum(file.get_tensor(name).numel() for name in file.keys())
    text = config["text_config"]
    for stated in (
        f"{parameters / 1e6:.1f} million parameters",
        f"{text['num_hidden_layers']} decoder layers of width {text['hidden_size']}",
        f"vision tower of {config['vision_config']['depth']} layers",
        f"tower of {config['audio_config']['encoder_layers']} layers",
        f"vocabulary of {text['vocab_size']} tokens",
    ):
        assert stated in " ".join(CARD.split())


def test_the_example_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", CARD, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert f'# "{names["answer"]}"' in block
