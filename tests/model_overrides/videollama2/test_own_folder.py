"""What save_pretrained wrote, damaged since: nothing of a model is ever made up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForMultimodalLM

from fastav_plugin import ConfigError, register_models
from fastav_plugin.model_overrides.videollama2 import (
    VideoLlama2ForConditionalGeneration,
    VideoLlama2Processor,
)
from tests.model_overrides.videollama2.checkpoint import tiny_model

HEAD: Any = VideoLlama2ForConditionalGeneration
NORM = "model.language_model.norm.weight"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    tiny_model().save_pretrained(tmp_path / "own")
    return tmp_path / "own"


def edit(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NORM), f"1 missing tensors: {NORM}"),
        (lambda t: t.update(other=torch.ones(1)), "1 unexpected tensors: other"),
        (
            lambda t: t.update({NORM: torch.ones(3)}),
            rf"1 tensors of a wrong shape: {NORM} \(3,\) instead of \(48,\)",
        ),
    ],
)
def test_every_tensor_is_accounted_for(own: Path, change: Any, message: str) -> None:
    register_models()
    auto: Any = AutoModelForMultimodalLM
    edit(own, change)
    for kind in (HEAD, auto):
        with pytest.raises(ConfigError, match=message):
            kind.from_pretrained(own)


def test_a_folder_in_a_folder(own: Path) -> None:
    edit(own, lambda tensors: tensors.pop(NORM))
    with pytest.raises(ConfigError, match="1 missing tensors"):
        HEAD.from_pretrained(own.parent, subfolder="own")


def test_what_was_found_is_told(own: Path) -> None:
    model, found = HEAD.from_pretrained(own, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert torch.equal(model.lm_head.weight, tiny_model().lm_head.weight)


def test_other_shapes_may_be_asked_for(own: Path) -> None:
    edit(own, lambda tensors: tensors.update({NORM: torch.ones(3)}))
    model = HEAD.from_pretrained(own, ignore_mismatched_sizes=True)
    assert model.model.language_model.norm.weight.shape == (48,)


def test_an_adapter_is_refused(own: Path, tmp_path: Path, official: Path) -> None:
    """transformers would read its base as a plain folder, or leave the adapter out."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    stated = {"peft_type": "LORA", "base_model_name_or_path": str(official)}
    (adapter / "adapter_config.json").write_text(json.dumps(stated))
    register_models()
    auto: Any = AutoModelForMultimodalLM
    for kind in (HEAD, auto):
        with pytest.raises(ConfigError, match=r"adapter' holds an adapter.*Merge it"):
            kind.from_pretrained(adapter)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"num_frames": 1}, "at least 2, got 1"), ({"video_token_id": 999}, "Placeholder ids .*999")],
)
def test_settings_given_late_are_checked_too(
    official: Path, own: Path, given: dict[str, Any], message: str
) -> None:
    register_models()
    auto: Any = AutoModelForMultimodalLM
    for kind in (HEAD, auto):
        for folder in (official, own):
            with pytest.raises(ConfigError, match=message):
                kind.from_pretrained(folder, **given)


def test_a_saved_processor_needs_no_registration(official: Path, tmp_path: Path) -> None:
    """In a process that has called nothing else of ours."""
    VideoLlama2Processor.from_pretrained(official).save_pretrained(tmp_path / "saved")
    code = (
        "from fastav_plugin.model_overrides.videollama2 import VideoLlama2Processor as P\n"
        f"print(type(P.from_pretrained({str(tmp_path / 'saved')!r}).feature_extractor).__name__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == ["BeatsFeatureExtractor"], result.stderr
