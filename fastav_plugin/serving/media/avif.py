"""Pixels that AV1 decodes for a picture of AVIF, which its size as shown does not bound."""

from collections.abc import Iterator

from fastav_plugin.serving.media.headers import boxes
from fastav_plugin.serving.media.policy import MediaError

_SEQUENCE_HEADER = 1
#: Items of AV1: a picture may be a grid of them, each with its alpha.
_AV1 = b"av01"


def decoded_pixels(data: bytes) -> int:
    """Pixels of all AV1 pictures in a file, as their own headers say.

    Raises:
        MediaError: it is damaged, an animation, or laid out as no encoder does.
    """
    found = [(kind, start, end) for kind, start, end in boxes(data, 0, len(data))]
    metas = [data[start + 12 : end] for kind, start, end in found if kind == b"meta"]
    if len(metas) != 1 or any(kind == b"moov" for kind, _, _ in found):
        raise MediaError("it is an animation of AVIF, or damaged.")
    try:
        inner = {
            kind: metas[0][start + 8 : end]
            for kind, start, end in boxes(metas[0], 0, len(metas[0]))
        }
        coded = _coded_items(inner[b"iinf"])
        parts = [part for item, part in _items(data, inner) if item in coded]
        if len(parts) < len(coded):
            raise IndexError
        return sum(max(_sequences(part)) for part in parts)
    except (IndexError, KeyError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError("its index is damaged.") from error


class _Bytes:
    """Numbers out of bytes, one after the other.

    Raises:
        IndexError: behind the end.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, count: int) -> bytes:
        found = self.data[self.place : self.place + count]
        if len(found) < count:
            raise IndexError
        self.place += count
        return found

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")


def _coded_items(table: bytes) -> set[int]:
    """Numbers of the items that are AV1."""
    found = set()
    for kind, start, end in boxes(table, 8 if table[0] else 6, len(table)):
        entry = _Bytes(table[start + 8 : end])
        version = entry.number(4) >> 24
        if kind != b"infe" or version < 2:
            raise IndexError
        number = entry.number(2 if version == 2 else 4)
        entry.take(2)
        if entry.take(4) == _AV1:
            found.add(number)
    return found


def _items(data: bytes, inner: dict[bytes, bytes]) -> Iterator[tuple[int, bytes]]:
    """Number and content of each item."""
    table = _Bytes(inner[b"iloc"])
    version = table.number(4) >> 24
    sizes = [half for byte in table.take(2) for half in (byte >> 4, byte & 15)]
    offsets, lengths, bases, indices = sizes
    total = 0
    for _ in range(table.number(4 if version == 2 else 2)):
        number = table.number(4 if version == 2 else 2)
        method = table.number(2) & 15 if version else 0
        table.take(2)
        whole = {0: data, 1: inner.get(b"idat", b"")}[method]
        base = table.number(bases)
        parts = []
        for _ in range(table.number(2)):
            table.take(indices if version else 0)
            start = base + table.number(offsets)
            length = table.number(lengths) or len(whole) - start
            total += length
            if length < 0 or start + length > len(whole) or total > len(data):
                raise IndexError
            parts.append(whole[start : start + length])
        yield number, b"".join(parts)


def _sequences(part: bytes) -> list[int]:
    """Pixels of a picture, of each header of a sequence in a stream of AV1."""
    stream, found = _Bytes(part), []
    while stream.place < len(part):
        head = stream.number(1)
        stream.take(1 if head & 4 else 0)
        length = _leb128(stream) if head & 2 else len(part) - stream.place
        content = stream.take(length)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            found.append(_pixels(_Bits(content)))
    return found


def _leb128(stream: _Bytes) -> int:
    value = 0
    for place in range(8):
        byte = stream.number(1)
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            break
    return value


class _Bits:
    """Numbers out of bits, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.bits = "".join(f"{byte:08b}" for byte in data[:512])
        self.place = 0

    def take(self, count: int) -> int:
        self.place += count
        return int(self.bits[self.place - count : self.place] or "0", 2)


def _pixels(bits: _Bits) -> int:
    """Largest picture of a sequence, by its header (AV1, section 5.5.1)."""
    bits.take(3 + 1)
    if bits.take(1):  # one picture, with a short header
        bits.take(5)
    else:
        delay = _timing(bits) if bits.take(1) else 0
        shown_later = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if delay and bits.take(1):
                bits.take(2 * delay + 1)
            if shown_later and bits.take(1):
                bits.take(4)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(wide) + 1) * (bits.take(high) + 1)


def _timing(bits: _Bits) -> int:
    """Read how pictures are timed; bits of a delay, or 0 where there is none."""
    bits.take(32 + 32)
    if bits.take(1):
        zeros = 0
        while not bits.take(1) and zeros < 32:
            zeros += 1
        bits.take(zeros)
    if not bits.take(1):
        return 0
    delay = bits.take(5) + 1
    bits.take(32 + 5 + 5)
    return delay
