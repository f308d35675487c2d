"""Pixels of AVIF, of pictures that libavif made, and of tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastav_plugin.serving.media.avif import decoded_pixels
from fastav_plugin.serving.media.decoding import decode
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from tests.serving.media.bombs import avif, box, numbers


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (100, 37), (1000, 500)])
@pytest.mark.parametrize(("mode", "parts"), [("RGB", 1), ("RGBA", 2)])
def test_pictures(size: tuple[int, int], mode: str, parts: int) -> None:
    data = avif(size, mode)
    assert decoded_pixels(data) == parts * size[0] * size[1]
    assert decode("image", data, MediaPolicy()).size == size


def test_what_the_header_says_does_not_count() -> None:
    assert decoded_pixels(avif((160, 120), said=(16, 12))) == 160 * 120


def test_animations() -> None:
    with pytest.raises(MediaError, match="animation of AVIF, or damaged"):
        decoded_pixels(avif((16, 16), pictures=2))


def test_damaged_pictures() -> None:
    """Cut off or spoilt anywhere, they are refused or have a number of pixels."""
    data = avif((64, 48), "RGBA")
    for end in range(len(data)):
        try:
            assert decoded_pixels(data[:end]) <= 2 * 64 * 48
        except MediaError:
            continue
    random = np.random.default_rng(0)
    for _ in range(500):
        spoilt = bytearray(data)
        spoilt[int(random.integers(len(data)))] = int(random.integers(256))
        try:
            assert decoded_pixels(bytes(spoilt)) >= 0
        except MediaError:
            continue


def test_parts_of_which_each_is_the_whole_file() -> None:
    """libavif would join them."""
    data = avif((16, 16))
    place = data.index(b"iloc")
    length = int.from_bytes(data[place - 4 : place], "big")
    extents = numbers(0, len(data)) * 1000
    table = box(b"iloc", numbers(0), b"\x44\0", b"\0\1\0\1\0\0", (1000).to_bytes(2, "big"), extents)
    start = data.index(b"meta") - 4
    size = int.from_bytes(data[start : start + 4], "big") + len(table) - length
    larger = data[: place - 4] + table + data[place - 4 + length :]
    larger = larger[:start] + numbers(size) + larger[start + 4 :]
    with pytest.raises(MediaError, match="index is damaged"):
        decoded_pixels(larger)


def test_tiles(tmp_path: Path) -> None:
    grid = pytest.importorskip("tests.media.made.grid")
    path = tmp_path / "tiled.avif"
    picture = np.full((256, 384, 3), 200, np.uint8)
    grid.tiled_avif(path, picture)
    assert decoded_pixels(path.read_bytes()) == 256 * 384
    found = np.asarray(decode("image", path.read_bytes(), MediaPolicy()))
    assert found.shape == picture.shape and np.abs(found.astype(int) - 200).max() < 8
