"""Frames of a clip, and where in them each shape is."""

import numpy as np
import numpy.typing as npt

from fastav_plugin.lab.testbed.world import FRAME_SIZE, Clip, Thing

_PAINT = np.array(
    [
        (225, 35, 35),
        (30, 190, 50),
        (40, 70, 235),
        (235, 215, 35),
        (170, 40, 200),
        (245, 245, 245),
    ],
    dtype=np.float32,
)
_COARSE = 8


def frame_times(clip: Clip, frames_per_second: float) -> npt.NDArray[np.float64]:
    """Seconds at which the frames of a clip are taken."""
    count = round(clip.seconds * frames_per_second)
    return np.arange(count, dtype=np.float64) / frames_per_second


def render_frames(clip: Clip, times: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Paint the clip at the given moments.

    Args:
        clip: the clip.
        times: float64 [T], seconds.

    Returns:
        uint8 [T, 112, 112, 3], RGB.
    """
    rng = np.random.default_rng((clip.seed, 2))
    background = _texture(rng)  # [H, W, 3]
    grain = rng.normal(0, 5, (FRAME_SIZE, FRAME_SIZE, 1)).astype(np.float32)
    paint = _PAINT + rng.normal(0, 8, _PAINT.shape).astype(np.float32)
    frames = np.empty((len(times), FRAME_SIZE, FRAME_SIZE, 3), np.float32)
    for index, time in enumerate(times):
        # The grain jumps with the frame's time, so that a frame looks the same at any frame rate.
        shift = int(time * 1000) * 37 % FRAME_SIZE
        frames[index] = background + np.roll(grain, shift, axis=(0, 1))
        for thing in clip.things:
            if thing.onset <= time < thing.offset:
                _paint(frames[index], thing, time, paint[thing.colour])
    return np.clip(frames, 0, 255).astype(np.uint8)


def cover(thing: Thing, time: float, cell: int) -> npt.NDArray[np.float32]:
    """Share of each square cell that the disc around a shape covers at a moment.

    Args:
        thing: the shape.
        time: second; nothing is covered outside the shape's stay.
        cell: side of a cell in pixels.

    Returns:
        float32 [112 / cell, 112 / cell].
    """
    cells = FRAME_SIZE // cell
    if not thing.onset <= time < thing.offset:
        return np.zeros((cells, cells), np.float32)
    axis = np.arange(2, FRAME_SIZE, 4, dtype=np.float32)
    x, y = _position(thing, time)
    inside = (axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2 < thing.radius**2
    steps = cell // 4
    share = inside.reshape(cells, steps, cells, steps).mean(axis=(1, 3))
    return np.asarray(share, np.float32)


def _texture(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Grey with a slight tint, cloudy at a coarse scale and grainy at a fine one."""
    points = np.linspace(0, _COARSE - 1, FRAME_SIZE)
    weights = np.maximum(0, 1 - np.abs(points[:, None] - np.arange(_COARSE)))  # [H, C]
    clouds = weights @ rng.normal(0, 16, (3, _COARSE, _COARSE)) @ weights.T  # [3, H, W]
    level = rng.uniform(60, 130) + rng.normal(0, 6, 3)
    texture = clouds.transpose(1, 2, 0) + level + rng.normal(0, 7, (FRAME_SIZE, FRAME_SIZE, 1))
    return np.asarray(texture, np.float32)


def _position(thing: Thing, time: float) -> tuple[float, float]:
    since = time - (thing.onset + thing.offset) / 2
    margin = 14.0
    x, y = (
        float(np.clip(start + speed * since, margin, FRAME_SIZE - margin))
        for start, speed in zip(thing.centre, thing.velocity, strict=True)
    )
    return x, y


def _paint(
    frame: npt.NDArray[np.float32], thing: Thing, time: float, paint: npt.NDArray[np.float32]
) -> None:
    x, y = _position(thing, time)
    reach = thing.radius * 1.3
    left, right = max(0, int(x - reach)), min(FRAME_SIZE, int(x + reach) + 1)
    top, bottom = max(0, int(y - reach)), min(FRAME_SIZE, int(y + reach) + 1)
    across = (np.arange(left, right, dtype=np.float32)[None, :] - x) / thing.radius
    down = (np.arange(top, bottom, dtype=np.float32)[:, None] - y) / thing.radius
    cos, sin = np.cos(thing.angle), np.sin(thing.angle)
    mask = _inside(thing.shape, across * cos + down * sin, down * cos - across * sin)
    patch = frame[top:bottom, left:right]
    patch[mask] = paint + 0.2 * (patch[mask] - 95)


def _inside(
    shape: int, u: npt.NDArray[np.float32], v: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Whether points, in units of the radius, belong to the shape; order as `SHAPES`."""
    square = np.maximum(np.abs(u), np.abs(v))
    disc = u * u + v * v
    if shape == 0:
        mask = disc < 1
    elif shape == 1:
        mask = square < 0.9
    elif shape == 2:
        mask = (np.abs(u) < (v + 1) * 0.58) & (v < 0.75)
    elif shape == 3:
        mask = (square < 1) & (np.minimum(np.abs(u), np.abs(v)) < 0.28)
    elif shape == 4:
        mask = (disc < 1.05) & (disc > 0.36)
    else:
        mask = (square < 0.95) & (np.abs(np.abs(v) - 0.475) > 0.19)
    return np.asarray(mask)
