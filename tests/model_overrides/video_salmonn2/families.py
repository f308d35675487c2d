"""Both models for the shared matrix, read from folders in the authors' layout."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from fastav_plugin.model_overrides import video_salmonn2
from tests.model_overrides.video_salmonn2 import tiny
from tests.model_overrides.video_salmonn2.published import write_folder
from tests.support.families import KNOWN, Family
from tests.support.family_configs import text_config
from tests.support.family_prompts import Rows
from tests.support.prompts import (
    AUDIO,
    IMAGE,
    PAD,
    VIDEO,
    VISION_END,
    VISION_START,
    Piece,
    Row,
    noise,
    row,
    special,
    words,
)

#: Ten audio tokens of 30 seconds: windows of four encoder frames, of forty.
_WINDOWS = {"second_per_window": 3.0, "second_stride": 3.0}
_WHISPER = tiny.WHISPER | {"max_source_positions": 40}
#: Visual tokens of a frame, and of a time grid of 2+.
FRAME, GRID = 12, 8


def config() -> Any:
    """video-SALMONN 2 in the vocabulary of the matrix."""
    return tiny.config(
        **text_config(),
        **_WINDOWS,
        speech_config=dict(_WHISPER),
        video_token_id=VIDEO,
        audio_token_id=AUDIO,
    )


def plus_config() -> Any:
    """2+ alike."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]}
    return tiny.plus_config(
        text_config=text_config(rope_parameters=rope),
        audio_config=_WHISPER | _WINDOWS | {"qformer_config": dict(tiny.QFORMER)},
        video_token_id=VIDEO,
        audio_token_id=AUDIO,
        image_token_id=IMAGE,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )


@dataclass(frozen=True)
class OwnFamily(Family):
    """A family whose model is one of ours."""

    def model(self, attention: str = "sdpa") -> Any:
        return _model(self.name, attention)


@functools.cache
def _model(name: str, attention: str) -> Any:
    family = KNOWN[name]
    head = getattr(video_salmonn2, tiny.MODELS[name])
    source = tiny.filled(head, family.config())
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), name, source)
        model = head.from_pretrained(folder, attn_implementation=attention, dtype=torch.float32)
    model.generation_config = GenerationConfig(pad_token_id=PAD)
    return model.eval()


def _clip(seed: int, heard: list[int], rest: int, front: int) -> Piece:
    """Frames, each with its share of the sound, and what is left of it."""
    ids, frames = [], []
    for frame, count in enumerate(heard):
        ids += [VIDEO] * FRAME + [AUDIO] * count
        frames += [frame] * (FRAME + count)
    ids += [AUDIO] * rest
    frames += [len(heard) - 1] * rest
    media = {
        "pixel_values_videos": noise(seed, len(heard), 3, 24, 24),
        "frames_per_clip": torch.tensor([len(heard)]),
        "input_features": noise(seed + 1, 1, 8, 80),
        "audio_layout": torch.tensor([[1, front, sum(heard)]]),
    }
    return Piece(ids, frames, media)


def clips() -> Rows:
    long = row(words(1, 6), _clip(1, [2] * 5, 0, 10), words(2, 5))
    # Eight tokens become nine, three per frame; two more stand after the last one.
    short = row(words(3, 4), _clip(5, [3] * 3, 2, 8), words(4, 6))
    return long, short, Row((words(5, 9),))


def _grids(seed: int, heard: list[int]) -> tuple[Piece, ...]:
    ids, frames = [], []
    for grid, count in enumerate(heard):
        ids += [VIDEO] * GRID + [AUDIO] * count
        frames += [grid] * (GRID + count)
    media = {
        "pixel_values_videos": noise(seed, len(heard) * 4 * GRID, 96),
        "video_grid_thw": torch.tensor([[len(heard), 4, 8]]),
        "second_per_grid_ts": torch.tensor([1.0]),
        "input_features": noise(seed + 1, 1, 8, 80),
        "segments_per_sound": torch.tensor([1]),
    }
    return special(VISION_START), Piece(ids, frames, media), special(VISION_END)


def plus_clips() -> Rows:
    long = row(words(1, 6), *_grids(1, [2, 2, 2, 4]), words(2, 5))
    short = row(words(3, 4), *_grids(5, [2, 8]), words(4, 6))
    return long, short, Row((words(5, 9),))


def _frame_ids(ids: Tensor) -> dict[str, Tensor]:
    video = ids == VIDEO
    opens = video & ((video.long().cumsum(1) - 1) % GRID == 0)
    frames = opens.long().cumsum(1) - 1
    return {"frame_ids": torch.where(video | (ids == AUDIO), frames, -1)}


_LISTED = [
    OwnFamily("video_salmonn2", "", config, clips, "first 2 frames", has_frames=True),
    OwnFamily(
        "video_salmonn2_plus",
        "",
        plus_config,
        plus_clips,
        {"video": "first 2 frames", "audio": "first 2 frames"},
        extra=_frame_ids,
        has_frames=True,
    ),
]
FAMILIES = {family.name: family for family in _LISTED}
KNOWN.update(FAMILIES)
