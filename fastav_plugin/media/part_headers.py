"""Headers of the parts that MP4, QuickTime and Matroska files consist of."""


def box_header(head: bytes, room: int) -> tuple[bytes, int, int]:
    """Read the header of a box of MP4 (ISO/IEC 14496-12).

    Args:
        head: the first 16 bytes of the box, or fewer at the end of what holds it.
        room: bytes from its beginning to the end of what holds it; a length of 0 takes them all.

    Returns:
        Its kind; where its content begins and where it ends, in bytes from its beginning. Nothing
        is checked: a damaged box may end before it begins.
    """
    length = int.from_bytes(head[:4], "big")
    if length == 1:
        return head[4:8], 16, int.from_bytes(head[8:16], "big")
    return head[4:8], 8, length or room


def element_header(head: bytes) -> tuple[int, int, int | None] | None:
    """Read the header of an element of Matroska (RFC 8794).

    Args:
        head: the first 16 bytes of the element, or fewer at the end of the file.

    Returns:
        Its number; where its content begins, in bytes from its beginning; and the length of the
        content, None where it is not stated. None where the bytes are no such header.
    """
    # The first bit that is set tells the length.
    name = 9 - int.from_bytes(head[:1], "big").bit_length()
    width = 9 - int.from_bytes(head[name : name + 1], "big").bit_length()
    if max(name, width) > 8:
        return None
    size = int.from_bytes(head[name : name + width], "big") - (1 << 7 * width)
    unknown = size == (1 << 7 * width) - 1
    return int.from_bytes(head[:name], "big"), name + width, None if unknown else size
