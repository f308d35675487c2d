"""Whether a file ends where its own headers say: a download that was cut off does not."""

from collections.abc import Iterator
from typing import Any

from fastav_plugin.media.part_headers import box_header, element_header

EMPTY = "it is empty"
#: Boxes of MP4 and QuickTime that may stand at the top level.
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp", b"sidx", b"pnot")
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
#: Sizes from here on stand for "not known" in what was written as a stream.
_UNKNOWN = 0x7FFF_0000


def missing_part(file: Any) -> str | None:
    """Why a file cannot be whole; None where it is, or its format does not say.

    Args:
        file: binary, seekable.

    Returns:
        A clause without a full stop, such as "it is empty".
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(16)
    if not size:
        return EMPTY
    if start[4:8] in _BOXES:
        return _missing_box(file, size)
    if int.from_bytes(start[:4], "big") == _EBML:
        end = _segment_end(file)
        return _cut_off(end, size) if end is not None and end > size else None
    if start[:4] == b"RIFF" and start[8:12] in (b"WAVE", b"AVI ", b"WEBP"):
        stated = int.from_bytes(start[4:8], "little")
        return _cut_off(8 + stated, size) if size < 8 + stated < _UNKNOWN else None
    stated_mp3 = _mp3_end(file)
    return _cut_off(stated_mp3, size) if stated_mp3 is not None and stated_mp3 > size else None


def _missing_box(file: Any, size: int) -> str | None:
    kinds = set()
    for kind, end in _boxes(file, size):
        kinds.add(kind)
        if end > size:
            return _cut_off(end, size)
    if not kinds & {b"moov", b"moof", b"meta"}:
        return "it is cut off: its index (`moov`), which many programs write last, is missing"
    if b"mdat" not in kinds and b"moof" not in kinds:
        return "it is cut off: it ends after its index, before its pictures and sound"
    return None


def _boxes(file: Any, size: int) -> Iterator[tuple[bytes, int]]:
    """Kind and end of each box at the top level."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        kind, _, length = box_header(file.read(16), size - place)
        if length < 8:
            return
        place += length
        yield kind, place


def _segment_end(file: Any) -> int | None:
    """Where the Segment of a Matroska file ends; None where its size is not stated."""
    place = 0
    for wanted in (_EBML, _SEGMENT):
        file.seek(place)
        head = file.read(12)
        element = element_header(head) if len(head) == 12 else None
        if element is None or element[0] != wanted or element[2] is None:
            return None
        place += element[1] + element[2]
    return place


def _mp3_end(file: Any) -> int | None:
    """Where an MP3 file ends by the table in its first frame; None without one."""
    file.seek(0)
    tag = file.read(10)
    place = 0
    if tag[:3] == b"ID3" and len(tag) == 10:  # seven bits of each byte count
        place = 10 + sum((byte & 127) << 7 * (3 - index) for index, byte in enumerate(tag[6:10]))
    file.seek(place)
    frame = file.read(64)
    if frame[:1] != b"\xff" or len(frame) < 64 or frame[1] & 0xE6 != 0xE2:
        return None
    table = max(frame.find(b"Xing"), frame.find(b"Info"))
    if table < 0:
        return None
    flags = frame[table + 7]
    if not flags & 2:
        return None
    start = table + 8 + 4 * (flags & 1)
    return place + int.from_bytes(frame[start : start + 4], "big")


def _cut_off(stated: int, size: int) -> str:
    return f"it is cut off: it has {size} of {stated} bytes"
