"""Files into inputs: no more of them is read than a processor uses."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2AudioProcessor, Qwen3OmniMoeProcessor

from fastav_plugin.lab.testbed.model import build_processor
from fastav_plugin.media.inputs import at_own_rates, prepare_prompt, read_media, video_arguments

RATE = 16_000


@pytest.fixture(scope="module")
def eleven_seconds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Longer than the 8 s that the processors below are set to."""
    path = tmp_path_factory.mktemp("sound") / "long.wav"
    samples = np.random.default_rng(0).normal(0, 3000, 11 * RATE).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def related(kind: Any) -> Any:
    """A processor of another family, of the parts of the bundled model's."""
    bundled: Any = build_processor()
    parts = {"feature_extractor": bundled.feature_extractor, "tokenizer": bundled.tokenizer}
    if kind is Qwen3OmniMoeProcessor:
        names = ("image_processor", "video_processor")
        parts |= {name: getattr(bundled, name) for name in names}
    else:
        parts |= {"audio_token": bundled.tokenizer.audio_token}
    return kind(**parts, chat_template=bundled.chat_template)


@pytest.mark.parametrize(
    ("make", "seconds"),
    [
        (build_processor, 8),
        (lambda: related(Qwen2AudioProcessor), 8),
        (lambda: related(Qwen3OmniMoeProcessor), 11),
    ],
    ids=["Qwen2.5-Omni", "Qwen2-Audio", "Qwen3-Omni"],
)
def test_sound_beyond_what_a_processor_uses_is_not_read(
    eleven_seconds: Path, make: Any, seconds: int
) -> None:
    processor = make()
    files: dict[str, Any] = {"images": [], "video": None, "audio": eleven_seconds}
    whole, used = read_media(**files), read_media(**files, processor=processor)
    assert whole.waveform is not None and used.waveform is not None
    assert (len(whole.waveform), len(used.waveform)) == (11 * RATE, seconds * RATE)
    expected, found = (
        prepare_prompt(processor, media, "Which sound is heard?") for media in (whole, used)
    )
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_clips_of_different_rates_keep_their_own() -> None:
    """As two clips of one request, of which one was sampled more thinly."""
    processor = build_processor()
    clips = [(np.zeros((4, 112, 112, 3), np.uint8), rate) for rate in (2.0, 0.5)]
    mark = "<|vision_bos|><|VIDEO|><|vision_eos|>"
    made = processor(text=[2 * mark], **video_arguments(processor, clips), return_tensors="pt")
    at_own_rates(made, [2.0, 0.5])
    assert made["video_second_per_grid"].tolist() == [1.0, 4.0]
