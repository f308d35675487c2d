"""Pictures with other than three channels of 8 bits, or of few lines."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.media.made.drawing import four_corners
from tests.media.made.pictures import REFUSED, picture, saved, upright
from tests.media.made.presentation import GREYS, Corners

#: The lower half is transparent.
TOP: Corners = ("red", "green", "paper", "paper")


def _deep(path: Path) -> None:
    """16 bits for each of red, green and blue: Pillow writes no such PNG."""
    import av

    wide = four_corners().astype(np.uint16) * 257
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream: Any = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb48be"
        frame = av.VideoFrame.from_ndarray(wide, format="rgb48le").reformat(format="rgb48be")
        container.mux([*stream.encode(frame), *stream.encode(None)])


def _deep_grey() -> Image.Image:
    return Image.fromarray(four_corners(corners=GREYS)[..., 0].astype(np.uint16) * 257)


def _with_alpha(mode: str = "RGBA") -> Image.Image:
    """The lower half is transparent: a viewer shows its background, white, there."""
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[32:] = 0
    rgba = np.dstack([four_corners(), alpha])
    return Image.fromarray(rgba).convert(mode)


def _half_transparent() -> Image.Image:
    black = np.zeros((64, 96, 3), np.uint8)
    return Image.fromarray(np.dstack([black, np.full((64, 96), 155, np.uint8)]))


def _palette() -> Image.Image:
    image = upright().quantize(8)
    image.info["transparency"] = image.getpixel((5, 60))  # the blue quarter
    return image


def _bits() -> Image.Image:
    grey = four_corners(corners=("white", "black", "black", "white"))
    return Image.fromarray(grey).convert("1")


def _thin(lines: int) -> Callable[[], Image.Image]:
    return lambda: Image.fromarray(four_corners(90, lines * 2)[:: 2 if lines == 1 else 1][:lines])


def _png(depth: int, kind: int, pixels: Any, transparent: bytes = b"") -> Callable[[Path], None]:
    """A PNG of samples that Pillow does not write: unsigned integers [H, W, channels]."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    behind = chunk(b"tRNS", transparent) if transparent else b""
    data = chunk(b"IHDR", header) + behind + chunk(b"IDAT", zlib.compress(rows))
    whole = b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")
    return lambda path: _write_bytes(path, whole)


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


DEEP_RGBA = np.asarray(_with_alpha()).astype(">u2") * 257
DEEP_GREY = np.asarray(_deep_grey()).astype(">u2")
#: As the lower left quarter, which a file may name as transparent.
BLUE = struct.pack(">3H", 30, 30, 220)

DEPTHS = [
    picture("grey-16-bit.png", saved(_deep_grey), corners=GREYS, tolerance=1),
    picture("grey-16-bit.tiff", saved(_deep_grey), corners=GREYS, tolerance=1, refused=REFUSED),
    picture("rgb-16-bit.png", _deep, tolerance=1),
    picture("rgba.png", saved(_with_alpha), corners=TOP, tolerance=1),
    picture(
        "la.png",
        saved(lambda: _with_alpha("LA")),
        corners=("grey of red", "grey of green", "paper", "paper"),
        tolerance=1,
    ),
    picture("half-transparent.png", saved(_half_transparent), corners=("half",) * 4, tolerance=1),
    picture("rgba.webp", saved(_with_alpha, lossless=True), corners=TOP, tolerance=1),
    picture("palette.png", saved(lambda: upright().quantize(8)), tolerance=8),
    picture(
        "palette-with-transparency.png",
        saved(_palette),
        corners=("red", "green", "paper", "white"),
        tolerance=8,
    ),
    picture("one-bit.png", saved(_bits), corners=("paper", "ink", "ink", "paper"), tolerance=0),
    picture(
        "one-line.png",
        saved(_thin(1)),
        size=(1, 90),
        corners=("red", "green", "red", "green"),
        tolerance=0,
    ),
    picture(
        "three-lines.png", saved(_thin(3)), size=(3, 90), corners=("red", "green") * 2, tolerance=0
    ),
    picture(
        "three-wide.png",
        saved(lambda: upright().crop((0, 0, 3, 64))),
        size=(64, 3),
        corners=("red", "red", "blue", "blue"),
        tolerance=0,
    ),
    picture("rgba-16-bit.png", _png(16, 6, DEEP_RGBA), corners=TOP, tolerance=1),
    picture(
        "grey-alpha-16-bit.png",
        _png(16, 4, np.dstack([DEEP_GREY, DEEP_RGBA[..., 3]])),
        corners=("black", "dark", "paper", "paper"),
        tolerance=1,
    ),
    picture(
        "named-transparent.png",
        _png(8, 2, four_corners(), BLUE),
        corners=("red", "green", "paper", "white"),
        tolerance=1,
    ),
    picture("two-bits.png", saved(lambda: upright().quantize(4), bits=2), tolerance=8),
    picture(
        "grey-16-bit-big-endian.tiff",
        saved(lambda: Image.fromarray(DEEP_GREY)),
        corners=GREYS,
        tolerance=1,
        refused=REFUSED,
    ),
    picture("transparent.gif", saved(_with_alpha), corners=TOP, tolerance=8),
    picture("lossy-alpha.webp", saved(_with_alpha, quality=95), corners=TOP, tolerance=16),
    picture("alpha.avif", saved(_with_alpha, quality=90), corners=TOP, tolerance=16),
    picture(
        "alpha.ico", saved(_with_alpha, sizes=[(96, 64)]), corners=TOP, tolerance=1, refused=REFUSED
    ),
    picture(
        "compressed.tiff", saved(upright, compression="tiff_lzw"), tolerance=0, refused=REFUSED
    ),
    picture(
        "pages.tiff",
        saved(upright, save_all=True, append_images=[Image.new("RGB", (9, 9))]),
        tolerance=0,
        refused=REFUSED,
    ),
    picture("portable.ppm", saved(upright), tolerance=0, refused=REFUSED),
]
