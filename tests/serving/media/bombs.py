"""Files of a few bytes that would become very many, and what is said of each."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Bomb:
    """A file, and why it is refused.

    Attributes:
        kind: what a request says it is.
        make: its bytes.
        why: pattern of the reason.
        limits: of the policy, where its defaults would need a large file.
    """

    kind: str
    make: Callable[[], bytes]
    why: str
    limits: dict[str, Any] = field(default_factory=dict)


@contextmanager
def muxed(form: str, **options: str) -> Iterator[tuple[Any, io.BytesIO]]:
    file = io.BytesIO()
    with av.open(file, "w", format=form, options=options) as container:
        yield container, file


def clip(
    form: str,
    times: list[float],
    side: int = 16,
    shape: Fraction | None = None,
    codec: str = "libx264",
) -> bytes:
    """A picture at each of some times, in seconds; `shape` is width over height of a pixel."""
    with muxed(form) as (container, file):
        stream = container.add_stream(codec, rate=4, options={"preset": "ultrafast"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = shape
        for number, time in enumerate(times):
            picture = np.full((side, side, 3), number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def sounds(times: list[float], tracks: int = 1, samples: int = 80) -> bytes:
    """Matroska with a short piece of sound at each of some times, in seconds, in each track."""
    with muxed("matroska") as (container, file):
        streams = [
            container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(tracks)
        ]
        for time in times:
            for stream in streams:
                packet = av.Packet(np.full(samples, 8000, "<i2").tobytes())
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = round(time * 1000)
                container.mux(packet)
    return file.getvalue()


def tagged(tags: int) -> bytes:
    """A FLAC with so many tags."""
    comments = b"".join(struct.pack("<I", 8) + b"%06d=v" % number for number in range(tags))
    body = struct.pack("<II", 0, tags) + comments
    about = b"\x10\0\x10\0" + bytes(6) + (8000 << 44 | 15 << 36).to_bytes(8, "big") + bytes(16)
    return b"fLaC\0\0\0\x22" + about + b"\x84" + len(body).to_bytes(3, "big") + body + bytes(99)


def gif(
    pictures: int,
    size: tuple[int, int] = (1, 1),
    delay: int = 10,
    at: tuple[int, int] = (0, 0),
    parts: int = 1,
) -> bytes:
    """Pictures of one pixel `at` a place of a canvas of `size`, their bytes in so many parts."""
    head = b"GIF89a" + struct.pack("<HH", *size) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    control = b"!\xf9\4\0" + struct.pack("<H", delay) + b"\0\0"
    picture = (
        b"," + struct.pack("<HHHHB", *at, 1, 1, 0) + b"\2\2D\1" + b"\1\0" * (parts - 1) + b"\0"
    )
    return head + (control + picture) * pictures + b";"


def chunk(name: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + checksum


def png(side: int, pictures: int = 0) -> bytes:
    """A PNG whose header says `side` x `side` pixels, and so many `pictures` of an animation."""
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))]
    if pictures:
        parts.append(chunk(b"acTL", struct.pack(">II", pictures, 0)))
        parts.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 10, 0, 0)))
    parts.append(chunk(b"IDAT", zlib.compress(bytes(10_000))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def webp(pictures: int, size: tuple[int, int], seconds: float) -> bytes:
    """An animation of small pictures on a canvas of `size`."""
    file = io.BytesIO()
    first, *rest = (Image.new("RGB", (2, 2), (255 * (n % 2), 0, 0)) for n in range(pictures))
    options = {"duration": round(1000 * seconds), "lossless": True, "save_all": True}
    first.save(file, "WEBP", append_images=rest, **options)
    data = bytearray(file.getvalue())
    place = data.index(b"VP8X") + 12
    for edge in size:
        data[place : place + 3] = (edge - 1).to_bytes(3, "little")
        place += 3
    return bytes(data)


def avif(
    size: tuple[int, int], mode: str = "RGB", pictures: int = 1, said: tuple[int, int] | None = None
) -> bytes:
    """A picture, or an animation, of one colour; its header may say another size."""
    file = io.BytesIO()
    first, *rest = (Image.new(mode, size, number) for number in range(pictures))
    first.save(file, "AVIF", save_all=bool(rest), append_images=rest, speed=10)
    data = file.getvalue()
    return data if said is None else data.replace(numbers(*size), numbers(*said))


def box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return (len(body) + 8).to_bytes(4, "big") + name + body


def full(name: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return box(name, numbers(flags), *parts)


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def packed_index() -> bytes:
    """QuickTime's compressed one, which FFmpeg unpacks at once, of whatever length it says."""
    size = 2**24
    packed = box(b"cmvd", numbers(size), zlib.compress(bytes(size)))
    index = box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), packed))
    return box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + index


def index(
    kind: bytes, samples: int, *, ticks: int = 2, size: int = 1, fragment: int | None = None
) -> bytes:
    """An MP4 whose index lists `samples` of one size; of none of them it holds anything.

    Args:
        kind: "vide" or "soun".
        samples: in the table of its track.
        ticks: of each.
        size: of each, in bytes.
        fragment: samples of a fragment, in the place of that table.
    """
    matrix = numbers(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    start = bytes(6) + b"\0\1"
    shown = kind == b"vide"
    if shown:
        form = start + bytes(16) + struct.pack(">HH", 16, 16) + numbers(0x480000, 0x480000, 0)
        entry = box(b"mp4v", form, b"\0\1", bytes(32), b"\0\x18\xff\xff")
    else:
        entry = box(b"sowt", start, bytes(8), struct.pack(">HHHHI", 1, 16, 0, 0, 8000 << 16))
    tables = [
        full(b"stsd", numbers(1), entry),
        full(b"stts", numbers(*((0,) if fragment else (1, samples, ticks)))),
        full(b"stsc", numbers(*((0,) if fragment else (1, 1, samples, 1)))),
        full(b"stsz", numbers(*((0, 0) if fragment else (size, samples)))),
        full(b"stco", numbers(*((0,) if fragment else (1, 40)))),
    ]
    header = full(b"vmhd", bytes(8), flags=1) if shown else full(b"smhd", bytes(4))
    where = box(b"dinf", full(b"dref", numbers(1), full(b"url ", flags=1)))
    media = box(
        b"mdia",
        full(b"mdhd", numbers(0, 0, 8000, 0, 0)),
        full(b"hdlr", numbers(0), kind, bytes(13)),
        box(b"minf", header, where, box(b"stbl", *tables)),
    )
    about = numbers(0, 0, 1, 0, 1000, 0, 0, 0, 0) + matrix + numbers(16 << 16, 16 << 16)
    track = box(b"trak", full(b"tkhd", about, flags=3), media)
    whole = numbers(0, 0, 1000, 1000, 0x10000) + b"\1\0" + bytes(10) + matrix + bytes(24)
    extends = box(b"mvex", full(b"trex", numbers(1, 1, 1, 1, 0))) if fragment else b""
    moov = box(b"moov", full(b"mvhd", whole, numbers(2)), track, extends)
    moof = b""
    if fragment:
        run = full(b"trun", numbers(fragment, 100), flags=1)
        parts = box(b"traf", full(b"tfhd", numbers(1), flags=0x20000), run)
        moof = box(b"moof", full(b"mfhd", numbers(1)), parts)
    return box(b"ftyp", b"isom", numbers(0), b"isom") + moov + moof + box(b"mdat", bytes(64))


#: The shape of pixels in an MP4.
_WIDE, _VERY_WIDE = b"pasp" + numbers(16, 1), b"pasp" + numbers(65_535, 1)
#: Pillow refuses the largest itself.
_LARGE = "pixels .*are more than the|DecompressionBomb"
#: What is shown of two pictures that are so far apart.
_APART = [0.0, 0.25, 590.0]

BOMBS: dict[str, Bomb] = {
    "picture": Bomb("image", lambda: png(10_000), _LARGE),
    "animated picture": Bomb("image", lambda: png(10_000, 2), _LARGE),
    "canvas of WebP": Bomb("image", lambda: webp(2, (12_000, 12_000), 1), _LARGE),
    "AVIF": Bomb("image", lambda: avif((4000, 3000)), _LARGE, {"max_pixels": 2**20}),
    "AVIF that grows": Bomb(
        "image",
        lambda: avif((4000, 3000), said=(16, 12)),
        "12000000 pixels of its parts are more than the 4194304",
        {"max_pixels": 2**20},
    ),
    "pictures of PNG": Bomb("video", lambda: png(8, 2**31 - 1), "more than the 18000 frames"),
    "large pictures of PNG": Bomb("video", lambda: png(5000, 1000), "pixels of all its frames"),
    "pictures of GIF": Bomb("video", lambda: gif(18_001), "more than the 18000 frames"),
    "large pictures of GIF": Bomb("video", lambda: gif(1000, (5000, 5000)), "pixels of all its"),
    "GIF that grows": Bomb(
        "video", lambda: gif(1)[:-1] + gif(1, at=(65_000, 9000))[19:], "65001 x 9001 pixels"
    ),
    "parts of GIF": Bomb("video", lambda: gif(1, parts=2**20), "more than 1048576 parts"),
    "parts between pictures": Bomb(
        "video", lambda: gif(1)[:-1] + bytes(2**20) + gif(1)[19:], "more than 1048576 parts"
    ),
    "slow GIF": Bomb("video", lambda: gif(2, delay=65_535), "lasts longer than"),
    "large slow GIF": Bomb("video", lambda: gif(2, (2000, 2000), 29_000), "bytes of the frames"),
    "large slow WebP": Bomb("video", lambda: webp(2, (2000, 2000), 290), "bytes of the frames"),
    "wide pixels": Bomb(
        "video",
        lambda: clip("matroska", [0, 0.25], 64, Fraction(16)),
        "65536 pixels of a frame as it is shown are more than the 65535",
        {"max_pixels": 65_535},
    ),
    "very wide pixels": Bomb(
        "video",
        lambda: clip("mp4", [0, 0.25], 64, Fraction(16)).replace(_WIDE, _VERY_WIDE),
        "65536 pixels of a frame as it is shown are more than the 65535",
        {"max_pixels": 65_535},
    ),
    "pictures years apart": Bomb("video", lambda: clip("matroska", [0, 1e9]), "lasts longer than"),
    "pictures years apart in MP4": Bomb("video", lambda: clip("mp4", [0, 1e4]), "lasts longer"),
    "pictures minutes apart": Bomb(
        "video", lambda: clip("matroska", _APART, 1024), "bytes of the frames taken of it"
    ),
    "wide pictures minutes apart": Bomb(
        "video",
        lambda: clip("matroska", _APART, 256, Fraction(16)),
        "bytes of the frames taken of it are more than",
    ),
    "a large frame": Bomb(
        "video",
        lambda: clip("mpegts", [0.0], 4096),
        "4096 x 4096 pixels are more than the 1048576",
        {"max_pixels": 2**20},
    ),
    "sounds years apart": Bomb("audio", lambda: sounds([0, 1e9]), "lasts longer than"),
    "packets of a sound": Bomb(
        "audio",
        lambda: sounds([number / 1000 for number in range(2100)], samples=8),
        "more than 2001 packets",
        {"max_frames": 1, "max_seconds": 2},
    ),
    "packets of many sounds": Bomb(
        "audio",
        lambda: sounds([number / 100 for number in range(100)], tracks=40),
        "more than 2001 packets",
        {"max_frames": 1, "max_seconds": 2},
    ),
    "tags": Bomb("audio", lambda: tagged(10**6), "more than 4096 tags"),
    "packed index": Bomb("video", packed_index, "its index is compressed"),
    "packed index of a sound": Bomb("audio", packed_index, "its index is compressed"),
    "index of pictures": Bomb("video", lambda: index(b"vide", 10**8), "lists more than 618000"),
    "index of a sound": Bomb("audio", lambda: index(b"soun", 10**8), "lists more than 618000"),
    "index of a fragment": Bomb(
        "video", lambda: index(b"vide", 0, fragment=10**8), "lists more than 618000 packets"
    ),
}
