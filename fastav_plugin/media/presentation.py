"""Decoded frames as a player shows them: upright, with square pixels, in RGB."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.media.cropping import Crop
from fastav_plugin.media.files import Source, pyav

Frames = npt.NDArray[np.uint8]
Alpha = npt.NDArray[np.uint8]

#: What shows through transparent pixels.
BACKGROUND = (255, 255, 255)
#: Lines of a picture that are blended at a time.
_STRIP = 64
#: Numbers of colour matrices (H.273); pictures from this width, or above this height, are HD.
_BT709, _UNSPECIFIED = 1, 2
_HIGH_DEFINITION = (1280, 576)
#: Pixels that are this many times as wide as high, or as high as wide, are a mistake.
_MOST_STRETCH = 16.0
#: What PyAV calls that which Matroska holds beside a packet, and its number where it is alpha.
_SIDE_ALPHA, _ALPHA = "matroska_block_additional", bytes(7) + b"\1"
#: Display matrices by quarters of a turn, counter-clockwise.
_QUARTERS = (None, (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))


class Presenter:
    """Makes pictures of one clip; all get the size of the first.

    Args:
        source: of the clip, for its limits.
        stretch: width of a pixel over its height; None for 1.
        crop: what the container leaves out of each coded picture; None for nothing.
    """

    def __init__(self, source: Source, stretch: Any = None, crop: Crop | None = None) -> None:
        self._source = source
        wide = float((crop and crop.stretch) or stretch or 1)
        self._stretch = wide if 1 / _MOST_STRETCH <= wide <= _MOST_STRETCH else 1.0
        self._crop = crop
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: Any, alpha: Alpha | None = None) -> Frames:
        """A frame of PyAV as uint8 [H, W, 3]; the matrix and range of its colours are its own.

        It is cropped as it is coded, stretched, then turned, as FFmpeg does. Where a file does not
        say which matrix it is, players take BT.709 for high definition, else BT.601.

        Args:
            frame: decoded.
            alpha: of its pixels, where another stream holds it.

        Raises:
            ConfigError: it would have more pixels than are allowed.
        """
        matrix = _display_matrix(frame)
        turned = matrix is not None and abs(matrix[1]) > abs(matrix[0])
        rows, columns = self._shown(frame)
        width, height = columns.stop - columns.start, rows.stop - rows.start
        if self._stretch > 1:
            width = round(width * self._stretch)
        else:
            height = round(height / self._stretch)
        if self._size is not None:
            height, width = self._size[::-1] if turned else self._size
        limits = self._source.limits
        if limits is not None and width * height > limits.pixels:
            raise self._source.fault(f"a picture of {width} x {height} pixels is too large")
        seen = _rgb(frame, alpha, (rows, columns), (width, height))
        if matrix is not None:
            seen = _turn(seen, matrix, turned)
        self._size = self._size or (seen.shape[0], seen.shape[1])
        return seen

    def _shown(self, frame: Any) -> tuple[slice, slice]:
        """Rows and columns of a coded picture that are shown: all where nothing would be left."""
        crop = self._crop or Crop(0, 0, 0, 0)
        rows = slice(crop.top, frame.height - crop.bottom)
        columns = slice(crop.left, frame.width - crop.right)
        if rows.start < rows.stop and columns.start < columns.stop:
            return rows, columns
        return slice(0, frame.height), slice(0, frame.width)


class SideAlpha:
    """Alpha of the pictures of WebM, which every packet holds as a second one of the same codec.

    FFmpeg's decoders of VP8 and VP9 leave it out.

    Args:
        source: for its limits.
        stream: of PyAV.

    Attributes:
        begun: whether that of any packet is known.
    """

    def __init__(self, source: Source, stream: Any) -> None:
        context = pyav().CodecContext.create(stream.codec_context.name, "r")
        context.thread_count = 1  # each packet gives its picture at once
        if source.limits is not None:
            context.options = {"max_pixels": str(source.limits.pixels)}
        self._context = context
        self._waiting: dict[int, Alpha | None] = {}
        self.begun = False

    @staticmethod
    def is_in(stream: Any) -> bool:
        """Whether a stream has it."""
        return bool(stream.metadata.get("alpha_mode") == "1")

    def read(self, packet: Any) -> bool:
        """Take what a packet holds; whether it could be decoded."""
        held = b""
        if packet.has_sidedata(_SIDE_ALPHA):
            held = bytes(packet.get_sidedata(_SIDE_ALPHA))
        if not held.startswith(_ALPHA):
            self._waiting[packet.pts] = None
            self.begun = True
            return True
        try:
            frames = self._context.decode(pyav().Packet(held[len(_ALPHA) :]))
        except pyav().FFmpegError:
            return False
        self.begun = True
        for frame in frames:
            levels = np.frombuffer(frame.planes[0], np.uint8).reshape(frame.height, -1)
            self._waiting[packet.pts] = levels[:, : frame.width]
        return True

    def join(self, frames: Sequence[Any]) -> list[tuple[Any, Alpha | None]]:
        """Decoded frames with their alpha, uint8 [H, W], None for opaque; without undecodable."""
        waiting = self._waiting
        joined = [(frame, waiting[frame.pts]) for frame in frames if frame.pts in waiting]
        if frames:
            self._waiting = {time: waiting[time] for time in waiting if time > frames[-1].pts}
        return joined


def over_background(rgba: npt.NDArray[np.uint8]) -> Frames:
    """Pixels with alpha, uint8 [H, W, 4], over the background: uint8 [H, W, 3]."""
    seen = np.empty((*rgba.shape[:2], 3), np.uint8)
    for top in range(0, len(rgba), _STRIP):  # in strips: numbers of 16 bits take twice the room
        strip = rgba[top : top + _STRIP]
        alpha = strip[..., 3:].astype(np.uint16)
        blended = strip[..., :3] * alpha + np.array(BACKGROUND, np.uint16) * (255 - alpha)
        seen[top : top + _STRIP] = (blended + 127) // 255
    return seen


def _rgb(
    frame: Any, alpha: Alpha | None, part: tuple[slice, slice], size: tuple[int, int]
) -> Frames:
    """A part of a frame at a size, width and height; blended before pixels are mixed."""
    form = frame.format
    clear = form.has_palette or any(component.is_alpha for component in form.components)
    untagged = not form.is_rgb and frame.colorspace == _UNSPECIFIED
    wide = frame.width >= _HIGH_DEFINITION[0] or frame.height > _HIGH_DEFINITION[1]
    matrix = {"src_colorspace": _BT709} if untagged and wide else {}
    whole = part == (slice(0, frame.height), slice(0, frame.width))
    if clear or alpha is not None or not whole:
        seen = frame.reformat(format="rgba" if clear else "rgb24", **matrix).to_ndarray()
        if alpha is not None and alpha.shape == seen.shape[:2]:
            seen = np.dstack([seen, alpha])
        seen = over_background(seen) if seen.shape[2] == 4 else seen
        seen = np.ascontiguousarray(seen[part])
        if size == (seen.shape[1], seen.shape[0]):
            return seen
        frame, matrix = pyav().VideoFrame.from_ndarray(seen, "rgb24"), {}
    found: Frames = frame.reformat(*size, "rgb24", **matrix).to_ndarray()
    return found


def _display_matrix(frame: Any) -> Sequence[int] | None:
    """The four numbers of a frame's display matrix that turn and mirror; None for upright."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV fails at any side data that it has no name for, such as EXIF. It finds the angle, but
        # not whether a picture is mirrored.
        return _QUARTERS[round(frame.rotation / 90) % 4]
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
