"""Clips that are turned, stretched, cropped, coloured, or one of several tracks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tests.media.made.boxes import box, inserted, patched
from tests.media.made.containers import CODEC, CONTAINER
from tests.media.made.drawing import CORNERS, Picture, four_corners
from tests.media.made.table import Expected, MadeFile
from tests.media.made.writing import Track, write

Corners = tuple[str, str, str, str]

RED, GREEN, BLUE, WHITE = CORNERS
#: Of pictures that are stored as `four_corners`, counter-clockwise.
TURNED: dict[int, Corners] = {
    90: (GREEN, WHITE, RED, BLUE),
    180: (WHITE, BLUE, GREEN, RED),
    270: (BLUE, RED, WHITE, GREEN),
}
MIRRORED: Corners = (GREEN, RED, WHITE, BLUE)
UPSIDE_DOWN: Corners = (BLUE, WHITE, RED, GREEN)
TRANSVERSE: Corners = (WHITE, GREEN, BLUE, RED)
GREYS: Corners = ("black", "dark", "grey", "light")
#: FFmpeg's numbers of matrices.
BT709, BT601, BT2020 = 1, 5, 9
MATRICES = {"601": BT601, "709": BT709, "2020": BT2020}
#: Elements of Matroska: 32 pixels on the left are not shown, 192 pixels wide.
CROP_LEFT, DISPLAY_WIDTH = b"\x54\xcc\x81\x20", b"\x54\xb0\x81\xc0"
#: The four quarters within a frame of which nothing is to be seen.
FRAMED = np.pad(four_corners(), ((8, 8), (32, 0), (0, 0)), constant_values=128)


def corners(
    name: str,
    picture: Picture | None = None,
    *,
    shown: Corners = CORNERS,
    size: tuple[int, int] = (64, 96),
    tolerance: int = 40,
    refused: str | None = None,
    change: Callable[[bytes], bytes] | None = None,
    fps: int = 5,
    **track: Any,
) -> MadeFile:
    """Two seconds of one picture of four quarters."""

    def make(path: Path) -> None:
        stored = four_corners() if picture is None else picture
        pictures = [(number / fps, stored) for number in range(2 * fps)]
        write(path, Track(pictures, last=1 / fps, rate=fps, **track))
        if change is not None:
            path.write_bytes(change(path.read_bytes()))

    expected = Expected(2.0, corners=shown, size=size, tolerance=tolerance)
    return MadeFile(name, "video", make, expected, refused)


def _turned(degrees: int, **flips: bool) -> Callable[[Any], None]:
    return lambda stream: stream.set_display_rotation(degrees, **flips)


def _aspect(across: int, down: int) -> Callable[[Any], None]:
    def setup(stream: Any) -> None:
        stream.sample_aspect_ratio = Fraction(across, down)
        stream.codec_context.sample_aspect_ratio = Fraction(across, down)

    return setup


def _wide_and_turned(stream: Any) -> None:
    _aspect(2, 1)(stream)
    _turned(90)(stream)


def _in_h264_entry(data: bytes, new: bytes) -> bytes:
    """An MP4 file with one more box in the description of its pictures."""
    place = data.index(b"avcC") - 4
    start = data.rindex(b"avc1", 0, place) - 4
    grown = int.from_bytes(data[start : start + 4], "big") + len(new)
    data = data[:start] + grown.to_bytes(4, "big") + data[start + 4 :]
    return inserted(data, place, new)


def _window(data: bytes) -> bytes:
    """Say that 96 x 64 of 128 x 80 pixels are shown, right and in the middle."""
    numbers = (96, 1, 64, 1, 16, 1, 0, 1)  # size, and how far right and down of the middle
    return _in_h264_entry(data, box(b"clap", struct.pack(">8I", *numbers)))


def _pasp(data: bytes) -> bytes:
    return _in_h264_entry(data, box(b"pasp", struct.pack(">2I", 2, 1)))


def _in_matroska(element: bytes) -> Callable[[bytes], bytes]:
    """Put an element of a byte in place of the unit of the size of presentation."""
    return lambda data: patched(data, b"\x54\xb2\x81\x04", element)


def _size(degrees: int) -> tuple[int, int]:
    return (96, 64) if degrees in (90, 270) else (64, 96)


def coloured(name: str, matrix: int | None, full: bool | None, **options: Any) -> MadeFile:
    """Colours that are coded by a matrix and a range, and say so."""
    options = {"colorspace": matrix, "full_range": full, "tolerance": 12, **options}
    return corners(name, **options)


PRESENTATION = [
    *(
        corners(
            f"turned-{degrees}.{ending}",
            setup=_turned(degrees),
            shown=shown,
            size=_size(degrees),
        )
        for degrees, shown in TURNED.items()
        for ending in ("mp4", "mov", "mkv")
    ),
    corners("mirrored.mp4", setup=_turned(0, hflip=True), shown=MIRRORED),
    corners("mirrored.mkv", setup=_turned(0, hflip=True), shown=MIRRORED),
    corners("upside-down.mov", setup=_turned(0, vflip=True), shown=UPSIDE_DOWN),
    corners("transverse.mp4", setup=_turned(90, hflip=True), shown=TRANSVERSE, size=(96, 64)),
    corners("turned-hevc.mp4", setup=_turned(90), shown=TURNED[90], size=(96, 64), codec="libx265"),
    # Pixels that are wider than they are high, or the other way round.
    *(
        corners(f"wide-pixels.{ending}", setup=_aspect(2, 1), size=(64, 192))
        for ending in ("mp4", "mov", "mkv", "ts")
    ),
    corners("four-thirds.mp4", setup=_aspect(4, 3), size=(64, 128)),
    corners("four-thirds.mkv", setup=_aspect(4, 3), size=(64, 128)),
    corners(
        "four-thirds.mpg",
        four_corners(48, 48),
        setup=_aspect(4, 3),
        size=(48, 64),
        codec="mpeg2video",
        fps=25,
        refused=CONTAINER,
    ),
    # Said by the container alone.
    corners("pasp.mp4", size=(64, 192), change=_pasp),
    corners("display-width.mkv", size=(64, 192), change=_in_matroska(DISPLAY_WIDTH)),
    corners("high-pixels.mp4", setup=_aspect(1, 2), size=(128, 96)),
    corners("wide-pixels-turned.mp4", setup=_wide_and_turned, shown=TURNED[90], size=(192, 64)),
    # Sizes that are no multiple of a codec's blocks; a window of what is coded.
    corners("cropped-h264.mp4", four_corners(126, 70), size=(70, 126)),
    corners("cropped-hevc.mp4", four_corners(126, 70), size=(70, 126), codec="libx265"),
    corners("odd.mkv", four_corners(95, 63), size=(63, 95), pix_fmt="yuv444p"),
    corners("odd.webm", four_corners(95, 63), size=(63, 95), codec="libvpx-vp9"),
    corners("window.mp4", FRAMED, size=(64, 96), change=_window),
    corners("window.mkv", FRAMED[8:-8], size=(64, 96), change=_in_matroska(CROP_LEFT)),
    # Every matrix and range that is said.
    *(
        coloured(f"{name}-{'full' if full else 'limited'}.mp4", matrix, full)
        for name, matrix in MATRICES.items()
        for full in (False, True)
    ),
    coloured("709-full.mkv", BT709, True),
    coloured("709-limited.webm", BT709, False, codec="libvpx-vp9"),
    coloured("709-full-av1.mp4", BT709, True, codec="libsvtav1"),
    coloured("2020-10-bit.mp4", BT2020, False, codec="libx265", pix_fmt="yuv420p10le"),
    coloured("601-full-mjpeg.avi", BT601, True, codec="mjpeg", pix_fmt="yuvj420p", refused=CODEC),
    # Nothing said: small pictures are BT.601, as of a DVD, large ones BT.709.
    coloured("untagged-small.mp4", BT601, False, tagged=False),
    coloured(
        "untagged-large.mp4",
        BT709,
        False,
        tagged=False,
        picture=four_corners(1280, 720),
        size=(720, 1280),
    ),
    corners("10-bit.mp4", pix_fmt="yuv420p10le", tolerance=12),
    corners("444.mkv", pix_fmt="yuv444p", tolerance=12),
    corners("422.mov", pix_fmt="yuv422p", tolerance=12),
    corners(
        "grey.mkv",
        four_corners(corners=GREYS),
        shown=GREYS,
        pix_fmt="gray",
        full_range=True,
        tolerance=12,
    ),
    corners("rgb.mkv", codec="ffv1", pix_fmt="bgr0", tolerance=2, refused=CODEC),
    corners("rgb-h264.mp4", codec="libx264rgb", pix_fmt="rgb24", tolerance=4),
    corners(
        "444-12-bit.mov", codec="prores_ks", pix_fmt="yuv444p10le", tolerance=12, refused=CODEC
    ),
]
