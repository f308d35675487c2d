"""The model card beside the weights."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import yaml  # type: ignore[import-untyped]
from safetensors import safe_open

from fastav_plugin.lab.testbed.model import MODEL_PATH

Run = Callable[..., "subprocess.CompletedProcess[str]"]

CARD = (MODEL_PATH / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", CARD, re.MULTILINE | re.DOTALL)


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


def test_the_example_with_transformers_alone_runs(run_with_video: Run) -> None:
    assert "import fastav_plugin" not in BLOCKS[0] and "from fastav_plugin" not in BLOCKS[0]
    done = run_with_video([sys.executable, "-c", f"{BLOCKS[0]}\nprint(answer)"])
    assert done.returncode == 0, done.stderr[-3000:]
    assert f'# "{done.stdout.strip()}"' in BLOCKS[0]


def test_the_example_with_the_package_runs() -> None:
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[1], "README.md", "exec"), names)
    assert f'# "{names["answer"]}"' in BLOCKS[1]
