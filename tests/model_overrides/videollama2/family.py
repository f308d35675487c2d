"""VideoLLaMA2 for the shared matrix: loaded from the authors' layout, prompts piece by piece."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

from transformers import GenerationConfig
from typing_extensions import override

from fastav_plugin.model_overrides.videollama2 import VideoLlama2ForConditionalGeneration
from tests.model_overrides.videollama2.checkpoint import tiny_config, tiny_model, write_official
from tests.support.families import KNOWN, Family
from tests.support.prompts import (
    AUDIO,
    IMAGE,
    PAD,
    VIDEO,
    VOCABULARY,
    Piece,
    Row,
    noise,
    row,
    tokens,
    words,
)

PLACEHOLDERS = {"image_token_id": IMAGE, "video_token_id": VIDEO, "audio_token_id": AUDIO}


@functools.cache
def load(attention: str) -> Any:
    """The tiny model out of an official folder."""
    with tempfile.TemporaryDirectory() as folder:
        write_official(Path(folder), tiny_model(vocab_size=VOCABULARY), vocab_size=VOCABULARY)
        model = VideoLlama2ForConditionalGeneration.from_pretrained(
            folder, attn_implementation=attention, **PLACEHOLDERS
        )
    model.generation_config = GenerationConfig(pad_token_id=PAD)
    return model


class OfficialFamily(Family):
    """A family whose model comes through the official-layout loader."""

    @override
    def model(self, attention: str = "sdpa") -> Any:
        return load(attention)


def clip(seed: int) -> Piece:
    """Eight frames: four steps of time of four tokens."""
    frames = [step for step in range(4) for _ in range(4)]
    return tokens(VIDEO, frames, pixel_values_videos=noise(seed, 1, 8, 3, 56, 56))


def sound(seed: int) -> Piece:
    """A sound that is short for the test: 4 x 8 patches."""
    return tokens(AUDIO, [-1] * 32, input_features=noise(seed, 1, 64, 128) * 5 + 15)


def picture(seed: int) -> Piece:
    return tokens(IMAGE, [-1] * 16, pixel_values=noise(seed, 1, 3, 56, 56))


_NONE = Row((words(5, 9),))


def heard_and_mute() -> tuple[Row, Row, Row]:
    long = row(words(1, 14), clip(1), sound(2), words(2, 6))
    return long, row(words(3, 14), clip(3), words(4, 5)), _NONE


def heard_and_still() -> tuple[Row, Row, Row]:
    long = row(words(1, 14), sound(1), words(2, 6))
    return long, row(words(3, 14), picture(3), words(4, 5)), _NONE


def _config() -> Any:
    return tiny_config(vocab_size=VOCABULARY)


NAMES = ("videollama2_clips", "videollama2_parts")
KNOWN[NAMES[0]] = OfficialFamily(
    NAMES[0], "", _config, heard_and_mute, {"video": "all", "audio": "first 10 tokens"}
)
KNOWN[NAMES[1]] = OfficialFamily(
    NAMES[1], "", _config, heard_and_still, {"image": "first 6 tokens", "audio": "first 10 tokens"}
)
