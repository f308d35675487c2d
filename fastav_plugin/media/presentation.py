"""Decoded frames as a player shows them: upright, with square pixels, in RGB."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.media.files import Source

Frames = npt.NDArray[np.uint8]

#: What shows through transparent pixels.
BACKGROUND = (255, 255, 255)
#: Numbers of colour matrices (H.273); pictures from this width, or above this height, are HD.
_BT709, _UNSPECIFIED = 1, 2
_HIGH_DEFINITION = (1280, 576)
#: Pixels that are this many times as wide as high, or as high as wide, are a mistake.
_MOST_STRETCH = 16.0


class Presenter:
    """Makes pictures of one clip; all get the size of the first.

    Args:
        source: of the clip, for its limits.
        stretch: width of a pixel over its height; None for 1.
    """

    def __init__(self, source: Source, stretch: Any = None) -> None:
        self._source = source
        wide = float(stretch or 1)
        self._stretch = wide if 1 / _MOST_STRETCH <= wide <= _MOST_STRETCH else 1.0
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> Frames:
        """A frame of PyAV as uint8 [H, W, 3]; the matrix and range of its colours are its own.

        Where a file does not say which, players take BT.709 for high definition, else BT.601.

        Raises:
            ConfigError: it would have more pixels than are allowed.
        """
        matrix = _display_matrix(frame)
        turned = matrix is not None and abs(matrix[1]) > abs(matrix[0])
        width, height = frame.width, frame.height
        if self._stretch > 1:
            width = round(width * self._stretch)
        else:
            height = round(height / self._stretch)
        if self._size is not None:
            height, width = self._size[::-1] if turned else self._size
        limits = self._source.limits
        if limits is not None and width * height > limits.pixels:
            raise self._source.fault(f"a picture of {width} x {height} pixels is too large")
        seen = _rgb(frame, width, height)
        if matrix is not None:
            seen = _turn(seen, matrix, turned)
        self._size = self._size or (seen.shape[0], seen.shape[1])
        return seen


def over_background(rgba: npt.NDArray[np.uint8]) -> Frames:
    """Pixels with alpha, uint8 [H, W, 4], over the background: uint8 [H, W, 3]."""
    alpha = rgba[..., 3:].astype(np.uint16)
    blended = rgba[..., :3] * alpha + np.array(BACKGROUND, np.uint16) * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)


def _rgb(frame: Any, width: int, height: int) -> Frames:
    form = frame.format
    alpha = form.has_palette or any(component.is_alpha for component in form.components)
    untagged = not form.is_rgb and frame.colorspace == _UNSPECIFIED
    wide = frame.width >= _HIGH_DEFINITION[0] or frame.height > _HIGH_DEFINITION[1]
    matrix = {"src_colorspace": _BT709} if untagged and wide else {}
    found: Frames = frame.reformat(
        width, height, "rgba" if alpha else "rgb24", **matrix
    ).to_ndarray()
    return over_background(found) if alpha else found


def _display_matrix(frame: Any) -> Sequence[int] | None:
    """The four numbers of a frame's display matrix that turn and mirror; None for upright."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32, count=5).tolist()
    return a, b, c, d


def _turn(picture: Frames, matrix: Sequence[int], turned: bool) -> Frames:
    """Apply a display matrix: (x, y) is shown at (a x + c y, b x + d y)."""
    a, b, c, d = matrix
    across, down = (c, b) if turned else (a, d)
    if turned:
        picture = picture.transpose(1, 0, 2)
    if down < 0:
        picture = picture[::-1]
    if across < 0:
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)
