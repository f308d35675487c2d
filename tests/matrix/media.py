"""Media as each kind of processor hands them over, made by hand, and prompts of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.support.family_prompts import Rows
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

#: Makes one medium from a seed and a size, 0 or 1.
Medium = Callable[[int, int], Piece]

#: A prompt without media.
NONE = Row((words(5, 9),))


def prompt(first: Medium, second: Medium | None = None) -> Callable[[], Rows]:
    """Two media; one smaller; none. Each between words and the marks of its kind."""

    def rows() -> Rows:
        one, two = _framed(first(1, 1)), _framed((second or first)(2, 1))
        long = row(words(1, 5), *one, words(2, 4), *two, words(3, 5))
        return long, row(words(4, 6), *_framed(first(3, 0)), words(5, 4)), NONE

    return rows


def words_only() -> Rows:
    """For models that are refused whatever the prompt."""
    return row(words(1, 30)), row(words(2, 20)), NONE


def _framed(piece: Piece) -> tuple[Piece, ...]:
    heard = AUDIO in piece.ids
    start, end = (AUDIO_START, AUDIO_END) if heard else (VISION_START, VISION_END)
    return special(start), piece, special(end)


def still(count: int, *shape: int, key: str = "pixel_values", **extra: Any) -> Medium:
    """Images of one size, `count` tokens each.

    Args:
        count: tokens of an image.
        shape: of its pixels, 3 x 32 x 32 if left out.
        key: name of the input.
        extra: further inputs; a tuple is the shape of a random one, anything else its value.
    """

    def medium(seed: int, size: int) -> Piece:
        media = {key: noise(seed, 1, *(shape or (3, 32, 32)))}
        for name, value in extra.items():
            random = isinstance(value, tuple)
            media[name] = noise(seed + 9, 1, *value) if random else torch.tensor([value])
        return tokens(IMAGE, [-1] * count, **media)

    return medium


def grid(
    *pixels: int, times: int = 0, joined: int = 1, line_ends: bool = False, **extra: int
) -> Medium:
    """Patches [n, *pixels] in a grid of 8 x 8 or 4 x 8, of which 2 x 2 make one token.

    Args:
        pixels: shape of a patch.
        times: time grids of a video; 0 makes an image.
        joined: time grids that make one frame of tokens.
        line_ends: whether a token follows each line, one begins the image and one ends it.
        extra: further inputs, one number each.
    """
    image = times == 0
    keys = ("pixel_values", "image_grid_thw") if image else VIDEO_KEYS

    def medium(seed: int, size: int) -> Piece:
        height = 8 if size and image else 4
        frames = [-1] if image else list(range(times))
        count = height // 2 * 5 + 2 if line_ends else height * 2
        media = {
            keys[0]: noise(seed, len(frames) * height * 8, *pixels),
            keys[1]: torch.tensor([[len(frames), height, 8]]),
        }
        media |= {name: torch.tensor([value]) for name, value in extra.items()}
        listed = [frame for frame in frames[::joined] for _ in range(count)]
        return tokens(IMAGE if image else VIDEO, listed, **media)

    return medium


VIDEO_KEYS = ("pixel_values_videos", "video_grid_thw")


def clip(count: int, frames: int = 2, *, side: int = 32) -> Medium:
    """Videos of whole frames, `count` tokens each frame."""

    def medium(seed: int, size: int) -> Piece:
        pixels = noise(seed, 1, frames, 3, side, side)
        listed = [frame for frame in range(frames) for _ in range(count)]
        return tokens(VIDEO, listed, pixel_values_videos=pixels)

    return medium


def sound(
    counts: tuple[int, int],
    *shape: int,
    mask: tuple[str, int, int, int] | None = None,
    dtype: torch.dtype = torch.int64,
    key: str = "input_features",
    **extra: int,
) -> Medium:
    """Sounds padded to one shape.

    Args:
        counts: tokens of a small and of a large one.
        shape: of the features.
        mask: name of the padding mask, its length, and real frames of a small and a large sound.
        dtype: of the mask.
        key: name of the features.
        extra: lengths of further masks, all ones.
    """

    def medium(seed: int, size: int) -> Piece:
        media = {key: noise(seed, 1, *shape)}
        if mask is not None:
            name, length, *real = mask
            media[name] = (torch.arange(length) < real[size])[None].to(dtype)
        for name, length in extra.items():
            media[name] = torch.ones(1, length, dtype=torch.int64)
        return tokens(AUDIO, [-1] * counts[size], **media)

    return medium
