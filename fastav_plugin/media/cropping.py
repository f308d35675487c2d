"""The part of coded pictures that is shown, where a container says so: PyAV does not pass it on.

It is the clean aperture of MP4 and QuickTime (ISO/IEC 14496-12), PixelCrop of Matroska (RFC 9559).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fastav_plugin.media.files import Source
from fastav_plugin.media.part_headers import box_header, element_header

#: Parts that are looked at before a file counts as one without crops; a real track has some dozens.
_MOST = 20_000
_EBML, _SEGMENT, _TRACKS, _TRACK = b"\x1a\x45\xdf\xa3", 0x18538067, 0x1654AE6B, 0xAE
_TRACK_TYPE, _VIDEO = 0x83, 0xE0
#: Elements of Matroska: pixels on the left, at the top, on the right, at the bottom.
_CROPS = (0x54CC, 0x54BB, 0x54DD, 0x54AA)

#: First byte of a part's content, and the one behind its last.
Span = tuple[int, int]
Walk = Callable[[Span], Iterator[tuple[Any, Span]]]


@dataclass(frozen=True)
class Crop:
    """Pixels of a coded picture that are not shown, on each side.

    Attributes:
        stretch: width over height of a pixel, by the size at which the container shows the rest;
            None where the stream says it.
    """

    left: int
    top: int
    right: int
    bottom: int
    stretch: float | None = None


def crop_of(source: Source, container: Any, stream: Any) -> Crop | None:
    """The crop of a video stream of an open container, both of PyAV; None without one."""
    if "mp4" in container.format.name:
        key = stream.id
    elif "matroska" in container.format.name:
        key = [video.index for video in container.streams.video].index(stream.index)
    else:
        return None
    with source.open() as file:
        return read_crops(file).get(key)


def read_crops(file: Any) -> dict[int, Crop]:
    """Find the crops that a binary, seekable file states.

    Returns:
        By ID of the track in MP4 and QuickTime; by its place among those of pictures in Matroska.
    """
    parts = _Parts(file)
    matroska = parts.read((0, 4)) == _EBML
    return dict((_matroska if matroska else _mp4)(parts, (0, file.seek(0, 2))))


class _Parts:
    """A file that consists of parts, which consist of parts."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = _MOST

    def read(self, span: Span, most: int = 128) -> bytes:
        """The content of a part, or its beginning; nothing after too many."""
        self._left -= 1
        self._file.seek(span[0])
        return bytes(self._file.read(max(0, min(most, span[1] - span[0], most * self._left))))

    def boxes(self, span: Span) -> Iterator[tuple[Any, Span]]:
        """Kind and content of each box of MP4."""
        place, stop = span
        while len(head := self.read((place, stop), 16)) >= 8:
            kind, content, length = box_header(head, stop - place)
            start, place = place + content, min(stop, place + length)
            if place < start:
                return
            yield kind, (start, place)

    def elements(self, span: Span) -> Iterator[tuple[Any, Span]]:
        """Number and content of each element of Matroska; one of unknown size takes the rest."""
        place, stop = span
        while head := self.read((place, stop), 16):
            element = element_header(head)
            if element is None:
                return
            number, content, size = element
            start = place + content
            place = stop if size is None else min(stop, start + size)
            if place < start:
                return
            yield number, (start, place)


def _find(walk: Walk, span: Span, *path: Any) -> Span:
    """The first part on a path of names; an empty one where there is none."""
    for wanted in path:
        span = next((content for name, content in walk(span) if name == wanted), (0, 0))
    return span


def _integers(data: bytes, size: int) -> list[int]:
    starts = range(0, len(data) - size + 1, size)
    return [int.from_bytes(data[i : i + size], "big", signed=True) for i in starts]


def _mp4(parts: _Parts, whole: Span) -> Iterator[tuple[int, Crop]]:
    boxes = parts.boxes
    for kind, track in boxes(_find(boxes, whole, b"moov")):
        if kind != b"trak":
            continue
        start, stop = _find(boxes, track, b"mdia", b"minf", b"stbl", b"stsd")
        start, stop = next((entry for _, entry in boxes((start + 8, stop))), (0, 0))
        inside = (start + 78, stop)  # what follows the fields of a picture's description
        aperture = _integers(parts.read(_find(boxes, inside, b"clap")), 4)
        head = parts.read(_find(boxes, track, b"tkhd"))
        if len(aperture) != 8 or len(head) < 84:
            continue
        size = _integers(parts.read((start + 24, start + 28)), 2)
        shown = [] if any(_find(boxes, inside, b"pasp")) else _integers(head[-8:], 4)
        crop = _clean_aperture(aperture, size, shown)
        if crop is not None:
            place = 20 if head[0] else 12
            yield int.from_bytes(head[place : place + 4], "big"), crop


def _clean_aperture(numbers: list[int], size: list[int], shown: list[int]) -> Crop | None:
    """A crop from width, height, and how far right and down of the middle, a fraction each.

    `shown` is the size of the track in 1/65536, at which FFmpeg would show the whole picture.
    """
    if any(below <= 0 for below in numbers[1::2]):
        return None
    wide, high, across, down = (Fraction(*numbers[i : i + 2]) for i in range(0, 8, 2))
    left, top = (size[0] - wide) / 2 + across, (size[1] - high) / 2 + down
    edges = [left, top, size[0] - left - wide, size[1] - top - high]
    if min(wide, high) < 1 or min(edges) < 0 or not any(edges):
        return None
    stretch = None
    if shown and min(shown) > 0 and shown != [65536 * side for side in size]:
        stretch = float(shown[0] / wide / (shown[1] / high))
    right, bottom = map(math.ceil, edges[2:])
    return Crop(math.floor(left), math.floor(top), right, bottom, stretch)


def _matroska(parts: _Parts, whole: Span) -> Iterator[tuple[int, Crop]]:
    elements = parts.elements
    place = 0
    for name, track in elements(_find(elements, whole, _SEGMENT, _TRACKS)):
        kind = parts.read(_find(elements, track, _TRACK_TYPE), 8)
        if name != _TRACK or int.from_bytes(kind, "big") != 1:
            continue
        stated = {
            number: int.from_bytes(parts.read(content, 8), "big")
            for number, content in elements(_find(elements, track, _VIDEO))
            if number in _CROPS
        }
        if any(stated.values()):
            yield place, Crop(*(stated.get(number, 0) for number in _CROPS))
        place += 1
