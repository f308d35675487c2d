"""Changes to the boxes of an MP4 file, and to the elements of a Matroska file."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

#: Boxes that hold boxes.
_OUTER = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf")
#: Of the movie's header: where its time scale is.
_MVHD_SCALE, _MDHD_SCALE = 20, 20


def boxes(
    data: bytes, start: int = 0, stop: int | None = None, path: tuple[bytes, ...] = ()
) -> Iterator[tuple[tuple[bytes, ...], int, int]]:
    """Path of names, first and last byte of each box, outer ones first."""
    place, end = start, len(data) if stop is None else stop
    while place + 8 <= end:
        size = int.from_bytes(data[place : place + 4], "big")
        name = data[place + 4 : place + 8]
        here = (*path, name)
        yield here, place, place + size
        if name in _OUTER:
            yield from boxes(data, place + 8, place + size, here)
        place += max(8, size)


def box(name: bytes, content: bytes) -> bytes:
    """A box of an MP4 file."""
    return struct.pack(">I4s", len(content) + 8, name) + content


def replaced(data: bytes, start: int, stop: int, new: bytes) -> bytes:
    """A file with other bytes for one box; the boxes around it grow with it.

    The media data must come before the index, or their places would be wrong.
    """
    grown = len(new) - (stop - start)
    changed = bytearray(data)
    for _, first, last in boxes(data):
        if first <= start and stop <= last and (first, last) != (start, stop):
            changed[first : first + 4] = (last - first + grown).to_bytes(4, "big")
    return bytes(changed[:start]) + new + bytes(changed[stop:])


def inserted(data: bytes, place: int, new: bytes) -> bytes:
    """A file with more bytes at a place; boxes of `boxes` around it grow with them."""
    changed = bytearray(data)
    for _, first, last in boxes(data):
        if first < place < last:
            changed[first : first + 4] = (last - first + len(new)).to_bytes(4, "big")
    return bytes(changed[:place]) + new + bytes(changed[place:])


def with_edits(data: bytes, edits: Sequence[tuple[float, float]]) -> bytes:
    """An MP4 file whose tracks play these parts.

    Args:
        data: the file, with an edit list in each track.
        edits: seconds that each part lasts, and the second of the media from which it is; -1
            for nothing.
    """
    found = list(boxes(data))
    mvhd = next(start for path, start, _ in found if path[-1] == b"mvhd")
    movie = int.from_bytes(data[mvhd + _MVHD_SCALE : mvhd + _MVHD_SCALE + 4], "big")
    lists = [(start, stop) for path, start, stop in found if path[-1] == b"elst"]
    scales = [start + _MDHD_SCALE for path, start, _ in found if path[-1] == b"mdhd"]
    assert len(lists) == len(scales)
    for (start, stop), scale in reversed(list(zip(lists, scales, strict=True))):
        media = int.from_bytes(data[scale : scale + 4], "big")
        # What the first edit left out is what the encoder needs to start.
        first = int.from_bytes(data[start + 20 : start + 24], "big")
        entries = b"".join(
            struct.pack(
                ">IiI",
                round(seconds * movie),
                -1 if begin < 0 else first + round(begin * media),
                1 << 16,
            )
            for seconds, begin in edits
        )
        new = box(b"elst", struct.pack(">II", 0, len(edits)) + entries)
        data = replaced(data, start, stop, new)
    return data


def without(data: bytes, name: bytes) -> bytes:
    """A file without its outermost boxes of a name."""
    for path, start, stop in reversed(list(boxes(data))):
        if path == (name,):
            data = data[:start] + data[stop:]
    return data


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """A file with other bytes of the same number at one place."""
    assert len(old) == len(new) and data.count(old) == 1, data.count(old)
    return data.replace(old, new)
