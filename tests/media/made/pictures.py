"""Pictures of every format, depth and orientation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.media.made.drawing import CORNERS, Picture, four_corners, plain
from tests.media.made.grid import tiled_avif
from tests.media.made.presentation import GREYS, Corners
from tests.media.made.table import Expected, MadeFile

#: What a server says of formats that it does not read.
REFUSED = "it is no picture that can be read"
#: How a viewer turns the stored picture, by EXIF's number; here the other way round.
_STORED: dict[int, Callable[[Picture], Picture]] = {
    1: lambda picture: picture,
    2: lambda picture: picture[:, ::-1],
    3: lambda picture: picture[::-1, ::-1],
    4: lambda picture: picture[::-1],
    5: lambda picture: picture.swapaxes(0, 1),
    6: lambda picture: np.rot90(picture),
    7: lambda picture: picture[::-1, ::-1].swapaxes(0, 1),
    8: lambda picture: np.rot90(picture, -1),
}


def picture(
    name: str,
    write: Callable[[Path], None],
    *,
    corners: Corners | None = CORNERS,
    size: tuple[int, int] | None = (64, 96),
    tolerance: int = 12,
    refused: str | None = None,
    error: str | None = None,
    needs: str | None = None,
) -> MadeFile:
    """A picture of four quarters."""
    expected = Expected(corners=corners, size=size, tolerance=tolerance, error=error)
    return MadeFile(name, "image", write, expected, refused, needs)


def saved(make: Callable[[], Image.Image], **options: Any) -> Callable[[Path], None]:
    """What writes a picture with Pillow."""
    return lambda path: make().save(path, **options)


def upright() -> Image.Image:
    """The four quarters."""
    return Image.fromarray(four_corners())


def oriented(name: str, orientation: int, **rest: Any) -> MadeFile:
    """A picture that is stored turned, with the EXIF entry that says how."""

    def write(path: Path) -> None:
        exif = _orientation(orientation)
        stored = Image.fromarray(np.ascontiguousarray(_STORED[orientation](four_corners())))
        options: dict[str, Any] = {"quality": 95} if path.suffix in (".jpg", ".webp") else {}
        stored.save(path, exif=exif, **options)

    # Colours of chroma that is stored at half the size run into each other.
    return picture(name, write, tolerance=16, **rest)


def _orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = number
    return exif


def _animated(path: Path) -> None:
    rest = [Image.fromarray(plain("magenta"))]
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    upright().save(path, save_all=True, append_images=rest, duration=500, **options)


def _half(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        make(path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    return write


def _followed(path: Path) -> None:
    upright().save(path, quality=95)
    path.write_bytes(path.read_bytes() + b"ftypmp42 and a film of three seconds" * 100)


def _noise() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    values[:] = np.where(np.arange(64)[:, None, None] < 8, four_corners(), values)
    return Image.fromarray(values)


def _heic(orientation: int = 1) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import pillow_heif

        exif = _orientation(orientation)
        stored = Image.fromarray(np.ascontiguousarray(_STORED[orientation](four_corners())))
        pillow_heif.from_pillow(stored).save(path, quality=95, exif=exif.tobytes())

    return write


BROKEN = "Cannot read the media file '.*{}'"

PICTURES = [
    *(oriented(f"orientation-{number}.jpg", number) for number in _STORED),
    *(
        oriented(f"orientation-6.{ending}", 6, refused=refused)
        for ending, refused in (("png", None), ("webp", None), ("tiff", REFUSED), ("avif", None))
    ),
    # Nonsense in place of an orientation, or of all of it.
    picture("orientation-9.jpg", saved(upright, exif=_orientation(9), quality=95), tolerance=16),
    picture("broken-exif.jpg", saved(upright, exif=b"Exif\0\0nonsense", quality=95), tolerance=16),
    picture("plain.png", saved(upright), tolerance=0),
    picture("plain.bmp", saved(upright), tolerance=0),
    picture("plain.webp", saved(upright, lossless=True), tolerance=0),
    picture("plain.gif", saved(upright), tolerance=8),
    picture("plain.tiff", saved(upright), tolerance=0, refused=REFUSED),
    picture("plain.avif", saved(upright, quality=90), tolerance=16),
    picture("plain.jp2", saved(upright), tolerance=2, refused=REFUSED),
    picture("progressive.jpg", saved(upright, progressive=True, quality=95), tolerance=16),
    picture("cmyk.jpg", saved(lambda: upright().convert("CMYK"), quality=95), tolerance=16),
    picture("cmyk.tiff", saved(lambda: upright().convert("CMYK")), refused=REFUSED),
    picture(
        "grey.jpg",
        saved(lambda: Image.fromarray(four_corners(corners=GREYS)).convert("L")),
        corners=GREYS,
    ),
    picture("animated-picture.gif", _animated, tolerance=8),
    picture("animated-picture.png", _animated, tolerance=0),
    picture("animated-picture.webp", _animated, tolerance=0),
    # What phones write behind a picture; a picture with the ending of another format.
    picture("with-more-behind.jpg", _followed, tolerance=16),
    picture(
        "two-in-one.jpg",
        saved(
            upright,
            format="MPO",
            save_all=True,
            quality=95,
            append_images=[Image.fromarray(plain("magenta"))],
        ),
        tolerance=16,
    ),
    picture("jpeg-by-name.jpg", saved(upright, format="PNG"), tolerance=0),
    picture(
        "tiled.avif",
        lambda path: tiled_avif(path, four_corners(256, 128)),
        size=(128, 256),
        tolerance=16,
    ),
    picture("plain.heic", _heic(), tolerance=16, refused=REFUSED, needs="pillow_heif"),
    picture("orientation-6.heic", _heic(6), tolerance=16, refused=REFUSED, needs="pillow_heif"),
    *(
        picture(
            f"half.{ending}",
            _half(saved(_noise, **options)),
            corners=None,
            # Of the last two nothing can be decoded.
            size=None if ending in ("webp", "avif") else (64, 96),
            error=BROKEN.format(f"half.{ending}"),
        )
        for ending, options in (
            ("jpg", {"quality": 95}),
            ("png", {}),
            ("bmp", {}),
            ("tiff", {}),
            ("webp", {"lossless": True}),
            ("gif", {}),
            ("avif", {}),
        )
    ),
]
