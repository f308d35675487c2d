"""Where a prompt's media tokens lie: in grids on its pictures, and along its sound."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.media.inputs import PARTS, Media
from fastav_plugin.media.presentation import Frames
from fastav_plugin.tokens import Modality, TokenMap

Positions = npt.NDArray[np.int64]
Grid = tuple[int, int, int]
#: What a processor of transformers names the pixels of each kind of picture.
_PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of the video, with its tokens.

    Attributes:
        kind: "image" or "video".
        pixels: uint8 [H, W, 3].
        positions: int64 [n], the prompt positions of its tokens, row by row.
        grid: rows and columns of the tokens; None where they lie in no known grid.
        seconds: when a frame is shown; None for an image.
    """

    kind: str
    pixels: Frames
    positions: Positions
    grid: tuple[int, int] | None
    seconds: float | None = None


def video_grid(processor: Any, inputs: Mapping[str, Any]) -> Grid:
    """Frames, rows and columns of the tokens of a prompt's one video.

    Raises:
        UnsupportedError: a prompt without exactly one video, or one whose tokens lie in no grid.
    """
    grids = _stated_grids(processor, inputs, "video")
    if len(grids) != 1:
        raise UnsupportedError(
            "Frames are drawn of prompts with one video whose processor says how its tokens lie "
            "(`video_grid_thw`), such as Qwen's. `fastav visualize explore` and `fastav visualize "
            "layers` draw any prompt."
        )
    return grids[0]


def positions_of(tokens: TokenMap, kind: str) -> Positions:
    """Prompt positions of a modality's tokens, int64 [n]."""
    found = tokens.mask(Modality[kind.upper()])[0].nonzero().squeeze(1)
    return np.asarray(found.cpu().numpy(), np.int64)


def pictures_of(
    processor: Any, inputs: Mapping[str, Any], media: Media, tokens: TokenMap
) -> list[Picture]:
    """The pictures of one prompt, in its order, each with its tokens.

    Grids are those that the processor states. Where it states none, but made square pixels of
    equal size whose tokens can only lie in squares, the pictures are those pixels.

    Args:
        processor: a checkpoint's.
        inputs: what it made of the media.
        media: what was read of the files; without frames those of `inputs` are taken.
        tokens: of the prompt, one batch row.
    """
    return [
        picture
        for kind in ("image", "video")
        if len(positions := positions_of(tokens, kind))
        for picture in _of_kind(kind, processor, inputs, media, tokens, positions)
    ]


def _of_kind(
    kind: str,
    processor: Any,
    inputs: Mapping[str, Any],
    media: Media,
    tokens: TokenMap,
    positions: Positions,
) -> list[Picture]:
    seen = _seen_pixels(processor, inputs, kind)
    given = list(media.images) if kind == "image" else media.frames
    grids = _stated_grids(processor, inputs, kind)
    if grids and sum(math.prod(grid) for grid in grids) == len(positions):
        layout = [(rows, columns) for steps, rows, columns in grids for _ in range(steps)]
        parts = np.split(positions, np.cumsum([math.prod(grid) for grid in layout])[:-1])
    else:
        side, count = _squares(inputs, kind, len(positions), seen)
        if count:
            parts = np.split(positions, count)
            layout, given = [(side, side)] * count, seen
        else:
            parts, layout = _runs(kind, tokens, positions), []
    shown = given if given is not None and len(given) else seen
    if shown is None or not len(shown):
        shown = [np.zeros((96, 96, 3), np.uint8)]
    seconds = None if kind == "image" or media.frames is None else len(media.frames) / media.fps
    return [
        Picture(
            kind,
            shown[index * len(shown) // len(parts)],
            part,
            layout[index] if layout else None,
            None if seconds is None else index * seconds / len(parts),
        )
        for index, part in enumerate(parts)
    ]


def _stated_grids(processor: Any, inputs: Mapping[str, Any], kind: str) -> list[Grid]:
    """Time steps, rows and columns of each medium's tokens, as a processor like Qwen's says."""
    sizes = inputs.get(f"{kind}_grid_thw")
    merge = getattr(getattr(processor, PARTS[kind], None), "merge_size", None)
    if sizes is None or merge is None:
        return []
    return [(time, rows // merge, columns // merge) for time, rows, columns in sizes.tolist()]


def _seen_pixels(processor: Any, inputs: Mapping[str, Any], kind: str) -> Frames | None:
    """Pictures as the model is given them, uint8 [n, H, W, 3]."""
    pixels = inputs.get(_PIXELS[kind])
    if pixels is None or pixels.dim() < 4 or pixels.shape[-3] != 3:
        return None
    values = pixels.detach().float().cpu().numpy().reshape(-1, *pixels.shape[-3:])
    part = getattr(processor, PARTS[kind], None) or getattr(processor, "image_processor", None)
    mean, spread = (getattr(part, name, None) for name in ("image_mean", "image_std"))
    if mean is not None and spread is not None:
        values = values * np.reshape(spread, (3, 1, 1)) + np.reshape(mean, (3, 1, 1))
    return np.asarray((255 * values).round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def _squares(
    inputs: Mapping[str, Any], kind: str, tokens: int, seen: Frames | None
) -> tuple[int, int]:
    """Side and number of the squares that the tokens lie in; (0, 0) where that is not certain."""
    # Tiles of a picture are joined, with tokens between their rows.
    if seen is None or "image_sizes" in inputs or seen.shape[1] != seen.shape[2]:
        return 0, 0
    # VideoLLaMA2 makes one grid of two frames.
    for count in (len(seen), len(seen) // 2):
        if count and tokens % count == 0 and (side := math.isqrt(tokens // count)) > 1:
            if side * side * count == tokens:
                return side, count
    return 0, 0


def _runs(kind: str, tokens: TokenMap, positions: Positions) -> list[Positions]:
    """The tokens of each frame where frames are known, else of each medium."""
    frames, segments = (part[0].cpu().numpy() for part in (tokens.frame, tokens.segment))
    groups = segments[positions]
    if kind == "video" and (frames[positions] >= 0).all():
        groups = frames[positions]
    return np.split(positions, np.flatnonzero(np.diff(groups)) + 1)


def spread_evenly(count: int, most: int) -> list[int]:
    """Indices of those to show, spread evenly where there are too many."""
    return [round(place) for place in np.linspace(0, count - 1, min(count, most))]
