"""The part of a picture that is shown: what MP4 and Matroska say, in good files and in bad ones."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin.media.clips import ClipFile, read_video
from fastav_plugin.media.cropping import Crop, crop_of, read_crops
from fastav_plugin.media.files import Source
from tests.media.made.boxes import box, boxes, inserted, patched, replaced
from tests.media.made.drawing import CORNERS, beeping
from tests.media.made.presentation import FRAMED
from tests.media.made.table import Expected
from tests.media.made.writing import Sound, Track, write
from tests.media.whole_files.shown import check_colour, check_corners

#: Size of the coded pictures, and what is left of them: to the right, and in the middle.
WIDTH, HEIGHT = 128, 80
WINDOW = (96, 1, 64, 1, 16, 1, 0, 1)
CROP = Crop(32, 8, 0, 8)
SHOWN = Expected(corners=CORNERS, size=(64, 96))


def clip(path: Path, *tracks: Any, seconds: int = 2, **options: Any) -> bytes:
    """Pictures of which the four quarters are a part."""
    pictures = [(number / 5, FRAMED) for number in range(5 * seconds)]
    write(path, *(tracks or (Track(pictures, last=0.2, rate=5, options={"g": "5"}),)), **options)
    return path.read_bytes()


def with_boxes(data: bytes, *new: bytes, number: int = 0) -> bytes:
    """An MP4 file with more boxes in the description of a track of H.264."""
    places = [at for at in range(len(data)) if data.startswith(b"avcC", at)]
    place = places[number] - 4
    start = data.rindex(b"avc1", 0, place) - 4
    content = b"".join(new)
    grown = int.from_bytes(data[start : start + 4], "big") + len(content)
    data = data[:start] + grown.to_bytes(4, "big") + data[start + 4 :]
    return inserted(data, place, content)


def clap(*numbers: int) -> bytes:
    return box(b"clap", struct.pack(">8i", *(numbers or WINDOW)))


def with_track_size(data: bytes, width: float, height: float) -> bytes:
    stop = next(stop for path, _, stop in boxes(data) if path[-1] == b"tkhd")
    size = struct.pack(">2I", round(65536 * width), round(65536 * height))
    return data[: stop - 8] + size + data[stop:]


def crops(data: bytes) -> dict[int, Crop]:
    return read_crops(io.BytesIO(data))


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return clip(tmp_path_factory.mktemp("mp4") / "clip.mp4")


@pytest.fixture(scope="module")
def mkv(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return clip(tmp_path_factory.mktemp("mkv") / "clip.mkv")


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (WINDOW, CROP),
        ((96, 1, 64, 1, 0, 1, 0, 1), Crop(16, 8, 16, 8)),
        ((96, 1, 64, 1, -16, 1, -8, 1), Crop(0, 0, 32, 16)),
        # In fractions; what is shown of half a pixel is shown.
        ((960, 10, 128, 2, 32, 2, 0, 7), CROP),
        ((95, 1, 80, 1, 0, 1, 0, 1), Crop(16, 0, 17, 0)),
        ((127, 1, 80, 1, -1, 2, 0, 1), Crop(0, 0, 1, 0)),
        # All is shown; more than there is; nothing; no numbers.
        ((128, 1, 80, 1, 0, 1, 0, 1), None),
        ((130, 1, 80, 1, 0, 1, 0, 1), None),
        ((96, 1, 64, 1, 17, 1, 0, 1), None),
        ((0, 1, 64, 1, 0, 1, 0, 1), None),
        ((-96, 1, 64, 1, 0, 1, 0, 1), None),
        ((96, 0, 64, 1, 0, 1, 0, 1), None),
        ((96, 1, 64, 1, 16, 0, 0, 1), None),
        ((96, -1, 64, 1, 16, 1, 0, 1), None),
    ],
)
def test_a_clean_aperture(mp4: bytes, numbers: tuple[int, ...], expected: Crop | None) -> None:
    assert crops(with_boxes(mp4, clap(*numbers))) == ({} if expected is None else {1: expected})


def test_a_file_without_a_crop(mp4: bytes, mkv: bytes) -> None:
    assert crops(mp4) == crops(mkv) == crops(b"") == crops(b"RIFF----AVI ") == {}


@pytest.mark.parametrize("shape", [(1, 1), (4, 3)])
@pytest.mark.parametrize("size", [(96, 64), (192, 64), (WIDTH, HEIGHT)])
def test_the_shape_of_pixels_beside_a_crop(
    tmp_path: Path, mp4: bytes, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    """The size of a track is that of what is shown: FFmpeg takes it for that of the whole."""
    pasp = box(b"pasp", struct.pack(">2I", *shape)) if shape != (1, 1) else b""
    path = tmp_path / "clip.mp4"
    path.write_bytes(with_track_size(with_boxes(mp4, clap(), pasp), *size))
    expected = (64, round(96 * shape[0] / shape[1]))
    if not pasp and size != (WIDTH, HEIGHT):
        expected = (size[1], size[0])
    frames = read_video(path, 1.0).frames
    check_corners(frames[0], Expected(corners=CORNERS, size=expected))


@pytest.mark.parametrize(
    "flags", ["faststart", "frag_keyframe+empty_moov", "frag_keyframe+empty_moov+default_base_moof"]
)
@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_wherever_the_index_lies(tmp_path: Path, flags: str, ending: str) -> None:
    path = tmp_path / f"clip.{ending}"
    whole = clip(path, options={"movflags": flags})
    assert crops(whole) == {}
    assert crops(with_boxes(whole, clap())) == {1: CROP}


def test_large_boxes_and_long_headers(mp4: bytes) -> None:
    data = with_boxes(mp4, clap())
    start, stop = next((start, stop) for path, start, stop in boxes(data) if path == (b"moov",))
    large = struct.pack(">I4sQ", 1, b"moov", stop - start + 8) + data[start + 8 : stop]
    assert crops(data[:start] + large) == {1: CROP}
    rest = struct.pack(">I4s", 0, b"moov") + data[start + 8 : stop]
    assert crops(data[:start] + rest) == {1: CROP}


def test_a_track_with_long_times(mp4: bytes) -> None:
    data = with_boxes(mp4, clap())
    start, stop = next((start, stop) for path, start, stop in boxes(data) if path[-1] == b"tkhd")
    fields = data[start + 8 : stop]
    long = b"\1" + fields[1:4] + bytes(16) + struct.pack(">II", 7, 0) + bytes(8) + fields[24:]
    assert crops(replaced(data, start, stop, box(b"tkhd", long))) == {7: CROP}


def test_a_crop_belongs_to_its_track(tmp_path: Path) -> None:
    pictures = [(number / 5, FRAMED) for number in range(10)]
    tracks = [Sound(beeping(((0.5, 1000.0),), 2, 48_000)), *2 * [Track(pictures, last=0.2, rate=5)]]
    for number, expected in enumerate([{2: CROP}, {3: CROP}]):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(with_boxes(clip(path, *tracks), clap(), number=number))
        assert crops(path.read_bytes()) == expected
        with av.open(str(path)) as container:
            found = [crop_of(Source(path), container, s) for s in container.streams.video]
        assert found == [CROP if place == number else None for place in range(2)]


def element(number: int, content: bytes | int, *, unknown: bool = False) -> bytes:
    """An element of Matroska, with as few bytes for its size as here are needed, or of none."""
    if isinstance(content, int):
        content = content.to_bytes(max(1, (content.bit_length() + 7) // 8), "big")
    name = number.to_bytes((number.bit_length() + 7) // 8, "big")
    if unknown:
        return name + b"\x01" + b"\xff" * 7 + content
    size = len(content)
    return (
        name + (bytes([0x80 | size]) if size < 127 else struct.pack(">Q", 1 << 56 | size)) + content
    )


def track(kind: int, *elements: bytes) -> bytes:
    inner = element(0xE0, element(0xB0, 128) + element(0xBA, 80) + b"".join(elements))
    return element(0xAE, element(0xD7, 1) + element(0x83, kind) + (inner if kind == 1 else b""))


LEFT, TOP = element(0x54CC, 32), element(0x54BB, 8)
RIGHT, BOTTOM = element(0x54DD, 300), element(0x54AA, 0)
HEADER = element(0x1A45DFA3, element(0x4282, b"matroska"))


@pytest.mark.parametrize("unknown", [False, True])
def test_crops_of_matroska(unknown: bool) -> None:
    tracks = element(
        0x1654AE6B,
        track(1) + track(2, LEFT) + track(1, LEFT, TOP, RIGHT) + track(1, BOTTOM) + track(1, TOP),
        unknown=unknown,
    )
    clusters = 3 * element(0x1F43B675, bytes(200))
    expected = {1: Crop(32, 8, 300, 0), 3: Crop(0, 8, 0, 0)}
    for content in (tracks + clusters, clusters + tracks):
        data = HEADER + element(0x18538067, element(0xEC, bytes(300)) + content, unknown=unknown)
        assert crops(data) == expected


# What FFmpeg writes about pictures of 128 x 80, and the element behind it, which gives its place.
_WRITTEN = bytes.fromhex("e08a b08180 ba8150 54b28104 55ee8100")


def _crop_in_matroska(data: bytes, *elements: bytes) -> bytes:
    return patched(data, _WRITTEN, bytes.fromhex("e08e b08180 ba8150") + b"".join(elements))


@pytest.mark.parametrize(
    ("elements", "size"),
    [
        ((LEFT, element(0x54DD, 16)), (80, 80)),
        ((LEFT, element(0x54B0, 96)), (80, 96)),
        # Pixels are wider than high: the width is that of what is left.
        ((LEFT, element(0x54B0, 192)), (80, 192)),
    ],
)
def test_a_crop_of_matroska_is_applied(
    tmp_path: Path, mkv: bytes, elements: tuple[bytes, ...], size: tuple[int, int]
) -> None:
    path = tmp_path / "clip.mkv"
    path.write_bytes(_crop_in_matroska(mkv, *elements))
    frames = read_video(path, 2.0).frames
    assert frames.shape == (4, *size, 3)
    check_colour(frames[0, 16, 8], "red", 40, "left")


def test_every_picture_is_cropped(tmp_path: Path) -> None:
    """Also those that are found by seeking."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(with_boxes(clip(path, seconds=20), clap()))
    for picture in ClipFile(path).show([0.0, 7.3, 7.5, 15.1, 19.9]):
        check_corners(picture, SHOWN)


@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_a_damaged_file_has_an_answer(
    mp4: bytes, mkv: bytes, place: int, value: int, cut: bool
) -> None:
    for data in (with_boxes(mp4, clap()), _crop_in_matroska(mkv, LEFT, TOP)):
        place %= len(data)
        crops(data[:place] if cut else data[:place] + bytes([value]) + data[place + 1 :])


@given(
    st.binary(max_size=80), st.sampled_from([b"\0\0\0\0moov", HEADER, HEADER + b"\x18S\x80g\xff"])
)
def test_any_bytes_behind_a_known_start(content: bytes, start: bytes) -> None:
    crops(start + content)


class Counted(io.BytesIO):
    """Counts what is read."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        assert size is not None
        assert 0 <= size <= 128
        return super().read(size)


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x08free" * 200_000,
        b"\0\0\0\0moov" + b"\0\0\0\x08trak" * 200_000,
        b"\0\0\0\0moov\0\0\0\0trak\0\0\0\0mdia\0\0\0\0minf" + b"\0\0\0\x08stbl" * 200_000,
        HEADER + b"\x18\x53\x80\x67\xff" + b"\xec\x80" * 800_000,
        HEADER + b"\x18\x53\x80\x67\xff\x16\x54\xae\x6b\xff" + b"\xae\x80" * 800_000,
    ],
    ids=["boxes", "tracks", "tables", "elements", "entries"],
)
def test_little_is_read_of_any_file(data: bytes) -> None:
    file = Counted(data)
    assert read_crops(file) == {}
    assert file.reads < 25_000


def test_of_a_real_file_a_few_headers_are_read(tmp_path: Path) -> None:
    for ending in ("mp4", "mkv"):
        file = Counted(clip(tmp_path / f"clip.{ending}", seconds=30))
        assert read_crops(file) == {}
        assert file.reads < 100
