"""Time of media: what is shown when, and which moments are sampled.

Pure functions. Times are seconds from the start of a file.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]
T = TypeVar("T")

#: Containers round time stamps to this and less: a picture is shown so much before its own.
ROUNDING = 1.5e-3
#: A rest of this and less at the end, such as the padding of a sound codec, is not sampled.
REST = 0.05


def shown_at(starts: Sequence[float] | Seconds, times: Sequence[float] | Seconds) -> list[int]:
    """Number of the picture that is shown at each time: a picture lasts until the next one.

    Args:
        starts: of each picture, ascending; the first one is shown from time 0 on.
        times: in any order.
    """
    moments = np.asarray(times, np.float64) + ROUNDING
    found = np.searchsorted(np.asarray(starts, np.float64), moments, side="right") - 1
    return [max(0, int(number)) for number in found]


def count_samples(seconds: float, fps: float) -> int:
    """How many times `fps` a second has in a clip: 0, 1 / fps, 2 / fps ... before its end."""
    rest = min(REST, 0.5 / fps)
    return max(1, math.ceil((seconds - rest) * fps - 1e-9))


def spread(count: int, most: int | None = None) -> list[int]:
    """Indices of at most `most` of `count` frames, spread evenly; always an even number.

    An odd last frame stands twice: processors merge frames in pairs.
    """
    whole = count + count % 2
    if most is None or whole <= most:
        return [min(index, count - 1) for index in range(whole)]
    points = np.linspace(0, whole - 1, max(2, most - most % 2)).round()
    return [min(int(point), count - 1) for point in points]


def steady_rate(starts: Seconds, end: float) -> float | None:
    """Pictures per second where they follow at equal intervals; None where they do not.

    The last one must last as long as the others, and each at most a second: of slides an even part
    of the pictures is no even part of the time.

    Args:
        starts: of each picture in seconds, ascending.
        end: of the last one.
    """
    if len(starts) < 2:
        return None
    step = (starts[-1] - starts[0]) / (len(starts) - 1)
    regular = starts[0] + step * np.arange(len(starts))
    if not 0 < step <= 1 + ROUNDING or np.abs(starts - regular).max() > max(ROUNDING, 0.02 * step):
        return None
    return 1 / step if abs(end - starts[-1] - step) < 0.25 * step + ROUNDING else None
