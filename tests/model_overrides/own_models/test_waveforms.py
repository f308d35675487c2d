"""Sounds in memory: what is at another scale is refused, whichever model hears it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastav_plugin import ConfigError
from fastav_plugin.model_overrides.own_models.waveforms import check_waveform
from fastav_plugin.model_overrides.video_salmonn2 import Clip
from fastav_plugin.model_overrides.videollama2 import VideoLlama2Processor
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.videollama2.checkpoint import write_official

TONE = np.sin(np.arange(16_000) / 9)


@pytest.mark.parametrize("given", [TONE, torch.tensor(TONE), TONE.tolist(), 1.5 * TONE])
def test_floats_are_taken(given: Any) -> None:
    found = check_waveform(given)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.asarray(given), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((TONE * 32767).astype(np.int16), "got ndarray of int16. Divide integers of 16 bits by"),
        (TONE * 32767, "got ndarray with 327"),
        (np.array([0.0, np.nan]), "got ndarray with nan"),
        (np.array([0.0, -np.inf]), "got ndarray with inf"),
        (TONE[None], r"samples \[n\] at 16000 Hz, got ndarray of shape \[1, 16000\]"),
    ],
)
def test_others_are_not(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_waveform(given)


def test_every_processor_asks(tmp_path: Path) -> None:
    processors = [tiny.processor(name) for name in tiny.CONFIGS]
    processors.append(VideoLlama2Processor.from_pretrained(write_official(tmp_path)))
    for processor in processors:
        with pytest.raises(ConfigError, match="got ndarray of int16"):
            processor(audio=(TONE * 32767).astype(np.int16), text="What?")


def test_the_sound_of_a_clip_in_memory() -> None:
    clip = Clip(np.zeros((3, 32, 32, 3), np.uint8), 3.0, (TONE * 32767).astype(np.int16))
    for name in tiny.CONFIGS:
        with pytest.raises(ConfigError, match="got ndarray of int16"):
            tiny.processor(name)(video=clip, text="What?")


def test_a_tensor_is_one_sound() -> None:
    for name in tiny.CONFIGS:
        one, two = (
            tiny.processor(name)(audio=given, text="What?")
            for given in (TONE.astype(np.float32), torch.tensor(TONE, dtype=torch.float32))
        )
        assert torch.equal(one["input_features"], two["input_features"])
