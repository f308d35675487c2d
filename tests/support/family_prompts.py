"""Prompts of each family, as its processor would lay them out.

Every function gives a long media prompt, one with less media, and one without media.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastav_plugin import Modality
from tests.support.prompts import (
    AUDIO,
    AUDIO_END,
    AUDIO_START,
    IMAGE,
    VIDEO,
    VISION_END,
    VISION_START,
    Piece,
    Row,
    noise,
    row,
    special,
    tokens,
    words,
)

Rows = tuple[Row, Row, Row]

_PIXELS = 3 * 2 * 4 * 4
_NONE = Row((words(5, 9),))


def _framed(seed: int, media: Piece) -> tuple[Piece, ...]:
    return (words(seed, 6), special(VISION_START), media, special(VISION_END), words(seed + 1, 5))


def picture(seed: int, height: int, width: int) -> Piece:
    return tokens(
        IMAGE,
        [-1] * (height * width // 4),
        pixel_values=noise(seed, height * width, _PIXELS),
        image_grid_thw=torch.tensor([[1, height, width]]),
    )


def _clip(seed: int, times: int, height: int, width: int, **media: Tensor) -> Piece:
    size = height * width // 4
    return tokens(
        VIDEO,
        [time for time in range(times) for _ in range(size)],
        pixel_values_videos=noise(seed, times * height * width, _PIXELS),
        video_grid_thw=torch.tensor([[times, height, width]]),
        **media,
    )


def _omni_clip(seed: int, times: int, height: int, width: int) -> Piece:
    return _clip(seed, times, height, width, video_second_per_grid=torch.tensor([1.0]))


def _sound_inputs(seed: int, count: int) -> dict[str, Tensor]:
    """Inputs of a sound of `count` tokens, padded to the longest sound used here."""
    frames = 4 * count
    mask = (torch.arange(160) < frames).long()[None]
    return {
        "input_features": noise(seed, 1, 8, 160) * mask[:, None],
        "feature_attention_mask": mask,
    }


def _sound(seed: int, count: int) -> tuple[Piece, ...]:
    heard = tokens(AUDIO, [-1] * count, **_sound_inputs(seed, count))
    return (special(AUDIO_START), heard, special(AUDIO_END))


def omni_image() -> Rows:
    long = row(*_framed(1, picture(1, 8, 8)), *_framed(3, picture(2, 4, 8)))
    return long, row(*_framed(5, picture(3, 8, 4))), _NONE


def omni_video() -> Rows:
    return (
        row(*_framed(1, _omni_clip(1, 4, 4, 8))),
        row(*_framed(3, _omni_clip(2, 3, 4, 4))),
        _NONE,
    )


def omni_audio() -> Rows:
    long = row(words(1, 4), *_sound(1, 30), words(2, 6))
    return long, row(words(3, 7), *_sound(2, 14), words(4, 4)), _NONE


def _heard_clip(seed: int, times: int, sounds: int) -> tuple[Piece, ...]:
    """A clip with its sound in it: chunks of two seconds, eight positions each."""
    height, width = 4, 8
    size = height * width // 4
    pieces: list[Piece] = []
    inputs = {
        "pixel_values_videos": noise(seed, times * height * width, _PIXELS),
        "video_grid_thw": torch.tensor([[times, height, width]]),
        "video_second_per_grid": torch.tensor([1.0]),
    } | _sound_inputs(seed, sounds)
    for chunk in range(max(times // 2, -(-sounds // 8))):
        seen = range(2 * chunk, min(times, 2 * chunk + 2))
        pieces.append(tokens(VIDEO, [time for time in seen for _ in range(size)]))
        heard = min(8, sounds - 8 * chunk)
        pieces.append(tokens(AUDIO, [min(times - 1, 2 * chunk + 1)] * heard))
    # Frames are already counted over the clip.
    ids = [token for piece in pieces for token in piece.ids]
    frames = [frame for piece in pieces for frame in piece.frames]
    return (
        special(VISION_START, AUDIO_START),
        Piece(ids, frames, inputs),
        special(AUDIO_END, VISION_END),
    )


def omni_interleaved() -> Rows:
    long = row(words(1, 4), *_heard_clip(1, 4, 14), words(2, 5))
    return long, row(words(3, 6), *_heard_clip(2, 2, 7), words(4, 4)), _NONE


def omni_all() -> Rows:
    long = row(
        *_framed(1, picture(1, 4, 8)),
        *_framed(3, _omni_clip(2, 3, 4, 4)),
        *_sound(3, 15),
        words(5, 4),
    )
    return long, row(words(6, 3), *_sound(4, 12), words(7, 3)), _NONE


def _flat_picture(seed: int, count: int, side: int = 16, *, newline: int | None = None) -> Piece:
    pixels = noise(seed, 1, 3, side, side)
    if newline is None:
        return tokens(IMAGE, [-1] * count, pixel_values=pixels)
    return tokens(
        IMAGE,
        [-1] * count,
        pixel_values=noise(seed, 1, 3, 3, side, side),
        image_sizes=torch.tensor([[16, newline]]),
    )


def llava() -> Rows:
    long = row(words(1, 6), _flat_picture(1, 16), words(2, 4), _flat_picture(2, 16), words(3, 5))
    return long, row(words(4, 7), _flat_picture(3, 16), words(5, 4)), _NONE


def llava_next() -> Rows:
    # A base of 16 tokens, then 4 lines of 8 (or 4) tokens and a newline each.
    long = row(words(1, 6), _flat_picture(1, 16 + 4 * 9, newline=32), words(2, 5))
    return long, row(words(3, 7), _flat_picture(2, 16 + 4 * 5, newline=16), words(4, 4)), _NONE


def _pooled_clip(seed: int, frames: int, newline: bool) -> Piece:
    numbers = [frame for frame in range(frames) for _ in range(4)]
    return tokens(
        VIDEO,
        numbers + [frames - 1] * newline,
        pixel_values_videos=noise(seed, 1, frames, 3, 16, 16),
    )


def llava_onevision() -> Rows:
    long = row(
        words(1, 4),
        _flat_picture(1, 16 + 4 * 9, newline=32),
        words(2, 4),
        _pooled_clip(2, 6, newline=True),
        words(3, 5),
    )
    return long, row(words(4, 5), _pooled_clip(3, 6, newline=True), words(5, 4)), _NONE


def llava_next_video() -> Rows:
    long = row(
        words(1, 4),
        _pooled_clip(1, 5, newline=False),
        words(2, 3),
        _pooled_clip(2, 5, newline=False),
        words(3, 5),
    )
    return long, row(words(4, 6), _pooled_clip(3, 5, newline=False), words(5, 4)), _NONE


def qwen_vl() -> Rows:
    long = row(*_framed(1, picture(1, 4, 8)), *_framed(3, _clip(2, 4, 4, 8)))
    return long, row(*_framed(5, _clip(3, 3, 4, 4))), _NONE


def qwen2_5_vl() -> Rows:
    long = row(*_framed(1, picture(1, 8, 8)), *_framed(3, _clip(2, 3, 4, 8)))
    return long, row(*_framed(5, picture(3, 8, 4))), _NONE


def _stamped_clip(seed: int, times: int) -> tuple[Piece, ...]:
    """Each time grid on its own, after a time stamp in words."""
    whole = _clip(seed, times, 4, 8)
    pieces: list[Piece] = []
    for time in range(times):
        media = whole.media if time == 0 else {}
        frame = Piece([VIDEO] * 8, [0] * 8, media)
        pieces += [words(seed + time, 2), special(VISION_START), frame, special(VISION_END)]
    return tuple(pieces)


def qwen3_vl() -> Rows:
    long = row(*_framed(1, picture(1, 8, 8)), words(2, 3), *_stamped_clip(2, 4), words(3, 5))
    return long, row(words(4, 4), *_stamped_clip(3, 2), words(5, 4)), _NONE


def gemma3() -> Rows:
    long = row(
        *_framed(1, _flat_picture(1, 16, 32)),
        *_framed(3, _flat_picture(2, 16, 32)),
        *_framed(5, _flat_picture(3, 16, 32)),
    )
    return long, row(*_framed(7, _flat_picture(4, 16, 32)), words(9, 3)), _NONE


def _pointed(seed: int, kind: Modality, frames: list[int]) -> Piece:
    return Piece(words(seed, len(frames)).ids, frames, kind=kind)


def plain_text() -> Rows:
    """Prompts of words, some of which the caller says are media."""
    seen = [frame for frame in range(5) for _ in range(6)]
    heard = [-1] * 25
    long = row(
        words(1, 5),
        _pointed(11, Modality.VIDEO, seen),
        words(2, 2),
        _pointed(12, Modality.AUDIO, heard),
        words(3, 6),
    )
    short = row(words(4, 7), _pointed(13, Modality.VIDEO, [0] * 9 + [1] * 9), words(5, 4))
    return long, short, _NONE
