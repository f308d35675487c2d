"""What the headers in a file say of its parts, read without a decoder.

Pillow and FFmpeg take what a header says for true when they open a file, before anything of it can
be refused: an index of 20 bytes may list a billion samples.
"""

import re
from collections.abc import Iterator

from fastav_plugin.media.part_headers import box_header
from fastav_plugin.serving.media.policy import MediaError

#: What FFmpeg would unpack at once, of any length: an index of QuickTime that was compressed.
PACKED = re.compile(rb"cmov.{4}dcom", re.DOTALL)

#: A marker of a JPEG that says what follows, in or between its scans.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_END, _SCAN = 0xD9, 0xDA

#: Parts of a file that are walked; those of real files have hundreds of bytes each.
_MOST_PARTS = 2**20
#: Blocks of a GIF.
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B

#: Boxes by which FFmpeg knows MP4 and QuickTime.
_KNOWN = frozenset(
    (b"ftyp", b"moov", b"moof", b"mdat", b"styp", b"sidx", b"free", b"skip", b"wide", b"uuid")
    + (b"pnot", b"udta", b"junk", b"pict", b"prfl")
)
#: Number of samples in an index: of a track, and of a fragment of one.
_SAMPLES = re.compile(rb"(?=(?:stsz.{8}|stz2.{8}|trun.{4})(.{4}))", re.DOTALL)
_HANDLER = re.compile(rb"(?=hdlr.{8}(.{4}))", re.DOTALL)
#: Table of durations: number of its entries, and the ticks of each sample of the first one.
_TIMES = re.compile(rb"(?=stts.{4}(.{4}).{4}(.{4}))", re.DOTALL)
_ONE = (1).to_bytes(4, "big")


#: Tags of a sound: length of the name of its encoder, before their number.
_COMMENTS = re.compile(rb"(?:\x03vorbis|OpusTags)(.{4})", re.DOTALL)
#: Names of tags in MP4, before their number; and what begins one in Matroska and in MP3.
_KEYS = re.compile(rb"(?=keys.{4}(.{4}))", re.DOTALL)
_EBML, _SIMPLE_TAG, _TEXT = b"\x1a\x45\xdf\xa3", b"\x67\xc8", b"TXXX"


def listed_tags(data: bytes) -> int:
    """Tags in a file, at least; FFmpeg compares each with all before it."""
    if data[:4] == b"fLaC":
        return _flac_tags(data)
    if data[:4] == b"OggS":
        places = [(f.end(), int.from_bytes(f[1], "little")) for f in _COMMENTS.finditer(data)]
        return max((_four(data, place + skip) for place, skip in places), default=0)
    if data[:4] == _EBML:
        return data.count(_SIMPLE_TAG)
    if data[:3] == b"ID3":
        return data.count(_TEXT)
    index = (data[a:b] for kind, a, b in boxes(data, 0, len(data)) if kind == b"moov")
    counts = (int.from_bytes(found[1], "big") for part in index for found in _KEYS.finditer(part))
    return max(counts, default=0)


def _flac_tags(data: bytes) -> int:
    place, count = 4, 0
    while place + 4 <= len(data):
        kind, length = data[place], int.from_bytes(data[place + 1 : place + 4], "big")
        if kind & 0x7F == 4:
            count += _four(data, place + 8 + _four(data, place + 4))
        if kind & 0x80:
            break
        place += 4 + length
    return count


def _four(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "little")


def jpeg_passes(data: bytes) -> int:
    """Scans of the first picture in a JPEG file; what phones append to it is not read."""
    passes, place = 0, 2
    while (found := _MARKER.search(data, place)) is not None and data[found.end() - 1] != _END:
        passes += data[found.end() - 1] == _SCAN
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        place = found.end() + max(2, length)
    return passes


def gif_pictures(data: bytes, most: int) -> tuple[int, int, int]:
    """Number of pictures in a GIF, and width and height of what all of them are drawn on.

    It grows with a picture that goes over its edge. After `most` pictures the rest is not looked
    at.

    Raises:
        MediaError: it has so many parts that it is no real one.
    """
    width, height = _little(data, 6), _little(data, 8)
    place = 13 + _palette(data, 10)
    count = parts = 0
    while place < len(data) and count <= most:
        kind = data[place]
        place += 1
        parts = _counted(parts)
        if kind == _TRAILER:
            break
        if kind == _IMAGE:
            width = max(width, _little(data, place) + _little(data, place + 4))
            height = max(height, _little(data, place + 2) + _little(data, place + 6))
            place += 10 + _palette(data, place + 8)
            count += 1
        elif kind == _EXTENSION:
            place += 1
        else:  # Pillow goes on with the next byte
            continue
        while place < len(data) and data[place]:
            place += 1 + data[place]
            parts = _counted(parts)
        place += 1
    return count, width, height


def listed_samples(data: bytes) -> int:
    """Samples that the indexes of an MP4 or QuickTime file list; 0 for other files.

    Uncompressed sound is left out: FFmpeg counts it by chunks.

    Raises:
        MediaError: it has so many parts that it is no real one.
    """
    top = list(boxes(data, 0, len(data)))
    if not any(kind in _KNOWN for kind, _, _ in top):
        return 0
    total = 0
    for kind, start, end in top:
        if kind == b"moov":
            total += sum(_samples(data[a:b]) for _, a, b in boxes(data, start + 8, end))
        elif kind != b"mdat":
            total += _samples(data[start:end])
    return total


def _samples(part: bytes) -> int:
    """Samples that a track, or any other part of an index, lists."""
    handlers = {found[1] for found in _HANDLER.finditer(part)}
    ticks = {found.groups() for found in _TIMES.finditer(part)}
    if b"soun" in handlers and b"vide" not in handlers and ticks == {(_ONE, _ONE)}:
        return 0
    return sum(int.from_bytes(found[1], "big") for found in _SAMPLES.finditer(part))


def boxes(data: bytes, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each box of MP4; what makes no box is one without a kind."""
    parts = 0
    while place + 8 <= end:
        kind, _, length = box_header(data[place : place + 16], end - place)
        stop = min(end, place + length) if length >= 8 else end
        yield kind if length >= 8 or not length else b"", place, stop
        place = stop
        parts = _counted(parts)


def _counted(parts: int) -> int:
    if parts == _MOST_PARTS:
        raise MediaError(f"it has more than {_MOST_PARTS} parts.", reason="limit")
    return parts + 1


def _little(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 2], "little")


def _palette(data: bytes, place: int) -> int:
    """Bytes of the palette that the flags at a place of a GIF announce."""
    flags = data[place] if place < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
