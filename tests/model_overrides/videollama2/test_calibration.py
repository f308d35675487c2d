"""An official folder is calibrated like any other, and its calibration is its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.cli import app
from fastav_plugin.model_overrides.videollama2 import (
    VideoLlama2ForConditionalGeneration,
    VideoLlama2Processor,
)
from tests.support.cache_names import passing


def test_calibrate_and_generate(official: Path, heard: Path, tmp_path: Path) -> None:
    data, output = tmp_path / "data.jsonl", tmp_path / "found.safetensors"
    data.write_text(json.dumps({"video": str(heard), "question": "What is heard?"}))
    arguments = ["calibrate", "--model", official, "--data", data, "--output", output]
    arguments += ["--layer", 3, "--threshold", 0.5, "--drop-ratio", 0.2, "--max-kl", 10, "--json"]
    arguments += ["--set", "min_media_tokens=1"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    rules = found["profile"]["rules"]["0.5"]
    assert rules["frames"]["video"] in {f"first {count} frames" for count in (1, 2, 3, 4)}
    assert found["chosen"]["flops_ratio"] < 1
    models: Any = VideoLlama2ForConditionalGeneration
    model = models.from_pretrained(official)
    config = FastAVConfig.for_model(model, calibration=str(output))
    assert config.global_rule == found["settings"]["global_rule"]
    cache = FastAVCache(config)
    processor = VideoLlama2Processor.from_pretrained(official)
    inputs = processor(text="What is heard?", video=heard)
    model.generate(**inputs, **passing(cache), max_new_tokens=1)
    counts = cache.report().tokens_per_layer
    assert counts[3] < counts[2] == counts[0]
