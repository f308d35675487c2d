"""A picture stored as a grid of tiles, as phones store HEIC and encoders large AVIF."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from PIL import Image

from tests.media.made.boxes import box
from tests.media.made.drawing import Picture


def tiled_avif(path: Path, picture: Picture) -> None:
    """Write a picture, uint8 [H, W, 3], as four tiles of AV1, each coded alone."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    tiles, configuration = [], b""
    for row in range(2):
        for column in range(2):
            part = picture[row * height : (row + 1) * height, column * width : (column + 1) * width]
            coded, configuration = _coded(part)
            tiles.append(coded)
    grid = struct.pack(">BBBBHH", 0, 0, 1, 1, 2 * width, 2 * height)
    start = 0
    # The places of the items depend on the length of the index, not on its numbers.
    for _ in range(2):
        head = _head(configuration, grid, tiles, start, width, height)
        start = len(head) + 8
    path.write_bytes(head + box(b"mdat", grid + b"".join(tiles)))


def _coded(picture: Picture) -> tuple[bytes, bytes]:
    """One tile, and what its decoder is told: the content of the box av1C."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "AVIF", quality=90, subsampling="4:4:4")
    data = buffer.getvalue()
    place = data.index(b"av1C")
    length = int.from_bytes(data[place - 4 : place], "big")
    media = data.index(b"mdat")
    size = int.from_bytes(data[media - 4 : media], "big")
    return data[media + 4 : media - 4 + size], data[place + 4 : place - 4 + length]


def _full(name: bytes, content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(name, struct.pack(">I", version << 24 | flags) + content)


def _head(
    configuration: bytes, grid: bytes, tiles: list[bytes], start: int, width: int, height: int
) -> bytes:
    count = len(tiles)
    entries = [
        _full(b"infe", struct.pack(">HH4sB", 1, 0, b"grid", 0), version=2),
        *(
            _full(b"infe", struct.pack(">HH4sB", 2 + number, 0, b"av01", 0), version=2, flags=1)
            for number in range(count)
        ),
    ]
    places, place = b"", start
    for number, item in enumerate([grid, *tiles], start=1):
        places += struct.pack(">HHHII", number, 0, 1, place, len(item))
        place += len(item)
    properties = [
        _full(b"ispe", struct.pack(">II", 2 * width, 2 * height)),
        _full(b"ispe", struct.pack(">II", width, height)),
        _full(b"pixi", b"\x03\x08\x08\x08"),
        box(b"av1C", configuration),
        box(b"colr", b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0x80)),
    ]
    # Of each item: its number, and the properties that belong to it.
    owners = struct.pack(">I", 1 + count) + struct.pack(">HB3B", 1, 3, 1, 3, 5)
    for number in range(count):
        owners += struct.pack(">HB4B", 2 + number, 4, 2, 3, 0x84, 5)
    references = struct.pack(f">HH{count}H", 1, count, *range(2, 2 + count))
    meta = [
        _full(b"hdlr", struct.pack(">I4s12xB", 0, b"pict", 0)),
        _full(b"pitm", struct.pack(">H", 1)),
        _full(b"iloc", struct.pack(">BBH", 0x44, 0, 1 + count) + places),
        _full(b"iinf", struct.pack(">H", len(entries)) + b"".join(entries)),
        _full(b"iref", box(b"dimg", references)),
        box(b"iprp", box(b"ipco", b"".join(properties)) + _full(b"ipma", owners)),
    ]
    brands = box(b"ftyp", b"avif" + bytes(4) + b"avif" + b"mif1" + b"miaf")
    return brands + _full(b"meta", b"".join(meta))
