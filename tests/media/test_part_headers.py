"""Headers of boxes and elements, by the bytes that the standards show."""

import pytest

from fastav_plugin.media.part_headers import box_header, element_header


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\0\0\0\x18ftypisom\0\0\2\0", (b"ftyp", 8, 24)),
        (b"\0\0\0\1mdat" + (2**33).to_bytes(8, "big"), (b"mdat", 16, 2**33)),
        (b"\0\0\0\0mdat" + bytes(8), (b"mdat", 8, 1000)),
        (b"\0\0\0\7free" + bytes(8), (b"free", 8, 7)),
        (b"\0\0\0\x08free", (b"free", 8, 8)),
    ],
)
def test_boxes(head: bytes, found: tuple[bytes, int, int]) -> None:
    assert box_header(head, 1000) == found


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\x1a\x45\xdf\xa3\xa3" + bytes(11), (0x1A45DFA3, 5, 0x23)),
        (b"\x18\x53\x80\x67\x01" + bytes(5) + b"\x12\x34" + bytes(4), (0x18538067, 12, 0x1234)),
        (b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(4), (0x18538067, 12, None)),
        (b"\xae\x40\x02", (0xAE, 3, 2)),
        (b"\xe0\xff", (0xE0, 2, None)),
        (b"\x54\xcc\x81\x06", (0x54CC, 3, 1)),
        (b"\x00" * 16, None),
        (b"\xae\x00" + bytes(14), None),
        (b"\xae", None),
        (b"", None),
    ],
)
def test_elements(head: bytes, found: tuple[int, int, int | None] | None) -> None:
    assert element_header(head) == found
