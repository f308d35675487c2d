"""Which frames of a clip are sampled, and where its audio tokens stand between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Seconds of one sound segment, which the encoder always takes whole.
SEGMENT_SECONDS = 30
#: The 7B model's interleaving counts 50 encoder frames per second, not its audio tokens.
_FRAMES_PER_SECOND = 50


def window_frames(frames: int, config: Any) -> tuple[int, int]:
    """Encoder frames in one window of the Q-Former, and from one window to the next.

    Args:
        frames: encoder frames of one segment.
        config: has `second_per_window` and `second_stride`.
    """
    window = round(frames * config.second_per_window / SEGMENT_SECONDS)
    return window, round(frames * config.second_stride / SEGMENT_SECONDS)


def tokens_per_segment(frames: int, config: Any) -> int:
    """Audio tokens of one segment; the config has `qformer_config` as well."""
    window, stride = window_frames(frames, config)
    return int(((frames - window) // stride + 1) * config.qformer_config.query_length)


def evenly(count: int, most: int) -> list[int]:
    """Numbers of at most `most` of `count` frames, spread from the first to the last."""
    return [int(number) for number in np.linspace(0, count - 1, min(count, most))]


def frames_at_rate(count: int, file_fps: float, fps: float, most: int) -> list[int]:
    """Frames of the 7B model: every n-th of a clip, or an even spread where those are too many.

    Args:
        count: frames of the clip.
        file_fps: frames per second of the clip.
        fps: frames wanted of each second.
        most: most frames.
    """
    every = range(0, count, max(round(file_fps / fps), 1))
    return list(every) if len(every) <= most else evenly(count, most)


def frames_in_bounds(seconds: float, count: int, fps: float, bounds: tuple[int, int]) -> list[int]:
    """Frames of 2+: `fps` per second, but a number between the bounds, spread evenly.

    Args:
        seconds: length of the clip.
        count: frames of the clip.
        fps: frames wanted of each second.
        bounds: fewest and most frames; a clip with fewer gives all it has.
    """
    low, high = bounds
    wanted = min(max(round(seconds * fps), low), high)
    return evenly(count, wanted)


@dataclass(frozen=True)
class SpreadAudio:
    """Audio tokens of one clip of the 7B model.

    Attributes:
        segments: segments of 30 seconds.
        front: tokens that are spread over the frames.
        spread: their number after repeating some, a multiple of the frames.
        rest: tokens that stand after the last frame.
    """

    segments: int
    front: int
    spread: int
    rest: int


def spread_audio(frames: int, tokens: int, seconds: float, segments: int) -> SpreadAudio:
    """Lay audio tokens out over the frames of a clip; with no frames they stand alone.

    Args:
        frames: frames of the clip; 0 for a sound alone.
        tokens: audio tokens, padding of the last segment included.
        seconds: length of the clip.
        segments: segments of the sound.
    """
    if not frames:
        return SpreadAudio(segments, tokens, tokens, 0)
    front = min(tokens, round(seconds * _FRAMES_PER_SECOND))
    spread = math.ceil(front / frames) * frames
    return SpreadAudio(segments, front, spread, tokens - front)


def audio_of_grids(grids: int, tokens: int, seconds_per_grid: float) -> list[int]:
    """Audio tokens after each time grid of 2+: two per second, the rest after the last one.

    Args:
        grids: time grids of the clip.
        tokens: audio tokens, padding of the last segment included.
        seconds_per_grid: time that one grid stands for.
    """
    starts = [min(tokens, math.floor(grid * seconds_per_grid * 2)) for grid in range(grids)]
    return [stop - start for start, stop in zip(starts, [*starts[1:], tokens], strict=True)]
