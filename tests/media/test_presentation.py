"""Decoded frames as a player shows them: turned, stretched, cropped, coloured, over white."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.packet import PacketSideData, PktSideDataT
from PIL import Image

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.clips import ClipFile, read_video
from fastav_plugin.media.cropping import Crop
from fastav_plugin.media.files import Limits, Source
from fastav_plugin.media.pictures import read_image
from fastav_plugin.media.presentation import Presenter, over_background
from tests.media.made.drawing import COLOURS, four_corners, plain
from tests.media.made.writing import QUICK, Track, write

Picture = npt.NDArray[np.uint8]
SOURCE = Source(b"")
WIDTH, HEIGHT = 96, 64
WHITE, BLUE, RED = (255, 255, 255), COLOURS["blue"], COLOURS["red"]
#: Half of red over white.
PINK = tuple((level + 255) // 2 for level in RED)


def frame(picture: Picture, form: str = "rgb24", **coding: Any) -> Any:
    """A picture as a frame of PyAV, coded as is said."""
    stored = av.VideoFrame.from_ndarray(picture, "rgba" if picture.shape[2] == 4 else "rgb24")
    return stored if form == stored.format.name else stored.reformat(format=form, **coding)


def near(found: Any, wanted: Any, tolerance: int = 6) -> bool:
    return bool(np.abs(np.asarray(found, int) - np.asarray(wanted, int)).max() <= tolerance)


def clip(path: Path, picture: Picture, setup: Callable[[Any], None], **track: Any) -> Picture:
    """The first picture that is read of a clip of one."""
    write(path, Track([(0.0, picture), (0.5, picture)], last=0.5, setup=setup, **track))
    found: Picture = read_video(path, 2.0).frames[0]
    return found


# Turned and mirrored.


@pytest.fixture(scope="module")
def drawn() -> Picture:
    """A picture without any symmetry."""
    picture = four_corners()
    picture[8:16, 16:32] = COLOURS["yellow"]
    return picture


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_every_orientation(
    tmp_path: Path, drawn: Picture, quarters: int, mirrored: bool, ending: str
) -> None:
    upright = clip(tmp_path / f"upright.{ending}", drawn, lambda stream: None)
    found = clip(
        tmp_path / f"turned.{ending}",
        drawn,
        lambda stream: stream.set_display_rotation(90 * quarters, hflip=mirrored),
    )
    assert near(upright, drawn, 60)
    wanted = np.rot90(upright, quarters)
    # FFmpeg's matrix turns first, then mirrors what is seen.
    assert np.array_equal(found, wanted[:, ::-1] if mirrored else wanted)


def test_an_orientation_that_stands_beside_unknown_data(tmp_path: Path, drawn: Picture) -> None:
    """PyAV has no name for EXIF beside a frame, with which cameras turn Motion JPEG."""
    for orientation, quarters in ((1, 0), (3, 2), (6, 3), (8, 1)):
        exif = Image.Exif()
        exif[0x112] = orientation
        file = io.BytesIO()
        Image.fromarray(drawn).save(file, "JPEG", exif=exif, quality=95, subsampling=0)
        path = tmp_path / f"{orientation}.avi"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mjpeg", rate=1)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj444p"
            for number in range(2):
                packet = av.Packet(file.getvalue())
                packet.pts = packet.dts = number
                packet.time_base, packet.stream = Fraction(1), stream
                packet.is_keyframe = True
                container.mux(packet)
        with av.open(str(path)) as container, pytest.raises(ValueError, match="not a valid Type"):
            next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
        assert near(read_video(path, 1.0).frames[0], np.rot90(drawn, quarters), 40)


# Stretched and cropped.


@pytest.mark.parametrize(
    ("stretch", "size"),
    [
        (None, (64, 96)),
        (1, (64, 96)),
        (2, (64, 192)),
        (Fraction(4, 3), (64, 128)),
        (Fraction(1, 2), (128, 96)),
        (Fraction(1, 17), (64, 96)),
        (17, (64, 96)),
        (0, (64, 96)),
    ],
)
def test_the_shape_of_pixels(drawn: Picture, stretch: Any, size: tuple[int, int]) -> None:
    found = Presenter(SOURCE, stretch)(frame(drawn))
    assert found.shape == (*size, 3)
    assert near(found[size[0] * 3 // 4, size[1] * 3 // 4], COLOURS["white"], 0)


def test_a_crop_comes_before_the_shape_and_the_turn(tmp_path: Path, drawn: Picture) -> None:
    crop = Crop(16, 0, 0, 8)
    cropped = drawn[:-8, 16:]
    assert np.array_equal(Presenter(SOURCE, None, crop)(frame(drawn)), cropped)
    wide = Presenter(SOURCE, 2, crop)(frame(drawn))
    assert wide.shape == (56, 160, 3)
    assert np.array_equal(wide, Presenter(SOURCE, 2)(frame(np.ascontiguousarray(cropped))))
    path = tmp_path / "turned.mp4"
    upright = clip(path, drawn, lambda stream: None)
    clip(path, drawn, lambda stream: stream.set_display_rotation(90))
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0))
    assert np.array_equal(Presenter(SOURCE, None, crop)(decoded), np.rot90(upright[:-8, 16:]))


def test_a_crop_may_say_the_shape(drawn: Picture) -> None:
    assert Presenter(SOURCE, 3, Crop(16, 0, 0, 0, 2.0))(frame(drawn)).shape == (64, 160, 3)


@pytest.mark.parametrize("crop", [Crop(48, 0, 48, 0), Crop(0, 0, 0, 64), Crop(200, 0, 0, 0)])
def test_a_crop_that_leaves_nothing_is_a_mistake(drawn: Picture, crop: Crop) -> None:
    assert np.array_equal(Presenter(SOURCE, None, crop)(frame(drawn)), drawn)


def test_all_pictures_get_the_size_of_the_first(tmp_path: Path, drawn: Picture) -> None:
    show = Presenter(SOURCE, 2)
    assert show(frame(drawn)).shape == (64, 192, 3)
    large = show(frame(four_corners(300, 500)))
    assert large.shape == (64, 192, 3)
    assert near(large[48, 144], COLOURS["white"])
    path = tmp_path / "turned.mp4"
    clip(path, four_corners(64, 32), lambda stream: stream.set_display_rotation(90))
    with av.open(str(path)) as container:
        turned = next(container.decode(video=0))
    found = show(turned)
    assert found.shape == (64, 192, 3)
    assert near(found[48, 144], COLOURS["blue"], 40)


def limits(pixels: int) -> Source:
    return Source(b"", limits=Limits({}, (), pixels, 60.0))


def test_a_picture_that_is_too_large() -> None:
    small = frame(plain("red"))
    assert Presenter(limits(WIDTH * HEIGHT))(small).shape == (HEIGHT, WIDTH, 3)
    for stretch in (2, Fraction(1, 2)):
        with pytest.raises(ConfigError, match="a picture of .* pixels is too large"):
            Presenter(limits(WIDTH * HEIGHT), stretch)(small)


# Colours.


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 9], ids=["709", "601", "2020"])
@pytest.mark.parametrize("form", ["yuv444p", "yuv444p10le", "yuva444p"])
def test_colours_are_decoded_as_they_were_coded(form: str, matrix: int, full: bool) -> None:
    picture = four_corners()
    if form == "yuva444p":
        picture = np.dstack([picture, np.full((HEIGHT, WIDTH), 255, np.uint8)])
    coded = frame(picture, form, dst_colorspace=matrix, dst_color_range=2 if full else 1)
    coded.colorspace, coded.color_range = matrix, 2 if full else 1
    for crop in (None, Crop(2, 0, 0, 0)):
        found = Presenter(SOURCE, None, crop)(coded)
        assert near(found, picture[:, crop.left if crop else 0 :, :3])


@pytest.mark.parametrize(
    ("size", "matrix"),
    [((1280, 720), 1), ((1920, 800), 1), ((720, 1280), 1), ((720, 576), 5), ((96, 64), 5)],
)
def test_colours_of_which_nobody_says_how(size: tuple[int, int], matrix: int) -> None:
    picture = four_corners(*size)
    coded = frame(picture, "yuv444p", dst_colorspace=matrix, dst_color_range=1)
    coded.colorspace = 2
    assert near(Presenter(SOURCE)(coded), picture)
    # What is left of a large picture has the colours of a large one.
    crop = Crop(size[0] - 32, 0, 0, size[1] - 32)
    assert near(Presenter(SOURCE, None, crop)(coded), plain("green", 32, 32))


# Over white.


def clear() -> Picture:
    """Red, half red, and blue that is not seen: above and below on the left, and on the right."""
    picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    picture[:, : WIDTH // 2] = (*RED, 255)
    picture[HEIGHT // 2 :, : WIDTH // 2, 3] = 128
    picture[:, WIDTH // 2 :] = (*BLUE, 0)
    return picture


def check_clear(picture: Picture) -> None:
    height, width = picture.shape[:2]
    left, right = width // 4, width - width // 4
    assert near(picture[height // 4, left], RED)
    assert near(picture[3 * height // 4, left], PINK)
    assert near(picture[height // 4, right], WHITE)
    assert near(picture[3 * height // 4, right], WHITE)


def transparent(path: Path, codec: str, form: str, options: Mapping[str, str]) -> Path:
    """A clip that shows for a second what `clear` draws, then nothing."""
    nothing = np.zeros_like(clear())
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, form
        stream.options = {**QUICK.get(codec, {}), "auto-alt-ref": "0", **options}
        stream.codec_context.thread_count = 1
        for number in range(10):
            picture = frame(nothing if number // 5 else clear(), form)
            picture.pts, picture.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "form"),
    [
        ("vp8.webm", "libvpx", "yuva420p"),
        ("vp9.webm", "libvpx-vp9", "yuva420p"),
        ("vp9.mkv", "libvpx-vp9", "yuva420p"),
        ("prores.mov", "prores_ks", "yuva444p10le"),
        ("animation.mov", "qtrle", "argb"),
        ("png.mov", "png", "rgba"),
        ("png.avi", "png", "rgba"),
        ("jpeg2000.mov", "jpeg2000", "rgba"),
        ("tiff.mov", "tiff", "rgba"),
        ("ffv1.mkv", "ffv1", "bgra"),
        ("ffv1-yuv.mkv", "ffv1", "yuva420p"),
        ("utvideo.avi", "utvideo", "gbrap"),
        ("magicyuv.avi", "magicyuv", "gbrap"),
        ("ffvhuff.avi", "ffvhuff", "yuva420p"),
        ("cineform.mov", "cfhd", "gbrap12le"),
    ],
)
def test_a_transparent_clip_is_shown_over_white(
    tmp_path: Path, name: str, codec: str, form: str
) -> None:
    options = {"profile": "4444"} if codec == "prores_ks" else {}
    video = read_video(transparent(tmp_path / name, codec, form, options), 1.0)
    check_clear(video.frames[0])
    assert near(video.frames[1], np.full((HEIGHT, WIDTH, 3), 255))


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_a_transparent_animation_is_shown_over_white(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"animation.{ending}"
    first = clear()
    if ending == "gif":  # which has no half transparent pixels
        first[HEIGHT // 2 :, : WIDTH // 2] = (*PINK, 255)
    second = np.zeros_like(first)
    images = [Image.fromarray(picture) for picture in (first, second)]
    # A GIF alone can only leave out pixels of the picture before by clearing it.
    more: dict[str, dict[str, Any]] = {"gif": {"disposal": 2}, "webp": {"lossless": True}}
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=1000, **more.get(ending, {})
    )
    check_clear(read_image(path))
    video = read_video(path, 1.0)
    check_clear(video.frames[0])
    assert near(video.frames[1], np.full((HEIGHT, WIDTH, 3), 255))


def test_pixels_of_a_palette_may_be_clear() -> None:
    stored = av.VideoFrame.from_ndarray(clear(), "rgba")
    palette = av.VideoFrame(WIDTH, HEIGHT, "pal8")
    numbers = np.zeros((HEIGHT, palette.planes[0].line_size), np.uint8)
    numbers[:, WIDTH // 2 :] = 1
    colours = np.zeros((256, 4), np.uint8)
    colours[:2] = [(*RED[::-1], 255), (*BLUE[::-1], 0)]  # in the order blue, green, red
    palette.planes[0].update(numbers.tobytes())
    palette.planes[1].update(colours.tobytes())
    assert stored.format.name == "rgba"
    found = Presenter(SOURCE)(palette)
    assert near(found[:, : WIDTH // 2], RED)
    assert near(found[:, WIDTH // 2 :], WHITE)


def test_colours_of_clear_pixels_are_never_seen() -> None:
    """Nor at edges, where pixels are mixed as a picture is stretched."""
    picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    picture[:] = (*BLUE, 0)
    picture[:, : WIDTH // 2] = (255, 255, 255, 255)
    for stretch in (None, Fraction(4, 3), Fraction(1, 2)):
        assert near(Presenter(SOURCE, stretch)(frame(picture, "rgba")), WHITE, 1)


def test_half_a_colour_over_the_background() -> None:
    levels = np.arange(256, dtype=np.uint8)
    pixels = np.stack([np.zeros(256, np.uint8)] * 3 + [levels], axis=-1)[None]
    assert np.array_equal(over_background(pixels)[0, :, 0], 255 - levels)


# The alpha of WebM, which is a second picture in each packet.


def alpha_packets(codec: str, levels: Sequence[int], every: int, size: int = 1) -> list[Any]:
    """Encoded alpha, five pictures a second, with a key frame every so often."""
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = size * WIDTH, size * HEIGHT, "yuv420p"
    context.time_base, context.thread_count = Fraction(1, 5), 1
    context.options = {**QUICK[codec], "auto-alt-ref": "0", "g": str(every), "b": "2000000"}
    found: list[Any] = []
    for number, level in enumerate(levels):
        planes = np.full((size * HEIGHT * 3 // 2, size * WIDTH), 128, np.uint8)
        planes[: size * HEIGHT] = level
        coded = av.VideoFrame.from_ndarray(planes, "yuv420p")
        coded.pts, coded.time_base = number, Fraction(1, 5)
        found += context.encode(coded)
    return [*found, *context.encode(None)]


def beside(packet: Any, alpha: bytes | None) -> Any:
    """A packet with another alpha, or without any."""
    kind = "matroska_block_additional"
    new = av.Packet(bytes(packet))
    for name in ("pts", "dts", "duration", "time_base", "stream", "is_keyframe"):
        setattr(new, name, getattr(packet, name))
    if alpha is not None:
        held = bytes(packet.get_sidedata(kind))[:8] + alpha
        make: Any = PacketSideData
        data = make(get_args(PktSideDataT).index(kind), len(held))
        data.update(held)
        new.set_sidedata(data)
    return new


def red_webm(path: Path, codec: str, alphas: Sequence[bytes | None]) -> Path:
    """Red pictures, five a second, a key frame each second, with a given alpha beside them."""
    red = np.dstack([plain("red"), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuva420p"
        stream.options = {**QUICK[codec], "auto-alt-ref": "0", "g": "5"}
        stream.codec_context.thread_count = 1
        encoded: list[Any] = []
        for number in range(len(alphas)):
            picture = frame(red, "yuva420p")
            picture.pts, picture.time_base = number, Fraction(1, 5)
            encoded += stream.encode(picture)
        encoded += stream.encode(None)
        for packet, alpha in zip(encoded, alphas, strict=True):
            container.mux(beside(packet, alpha))
    return path


VPX = pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])


def shown(source: Any, times: Sequence[float]) -> list[bool]:
    """Whether red is seen at some times, or white."""
    colours = [picture[HEIGHT // 2, WIDTH // 2] for picture in ClipFile(source).show(times)]
    assert all(near(colour, RED) or near(colour, WHITE) for colour in colours), colours
    return [near(colour, RED) for colour in colours]


@VPX
@pytest.mark.parametrize("every", [5, 1000])
def test_alpha_is_found_by_seeking(tmp_path: Path, codec: str, every: int) -> None:
    """Also where it cannot be decoded from every key frame of the colours."""
    seen = [number // 7 % 2 == 0 for number in range(60)]
    alphas = [bytes(p) for p in alpha_packets(codec, [255 * s for s in seen], every)]
    path = red_webm(tmp_path / "clip.webm", codec, alphas)
    assert shown(path, [number / 5 for number in range(60)]) == seen
    picked = [8, 33, 41, 59]
    assert shown(path, [number / 5 for number in picked]) == [seen[number] for number in picked]


@VPX
def test_a_packet_without_alpha_is_opaque(tmp_path: Path, codec: str) -> None:
    alphas = [bytes(packet) for packet in alpha_packets(codec, [0] * 10, 1)]
    path = red_webm(tmp_path / "clip.webm", codec, [None, *alphas[1:5], None, *alphas[6:]])
    assert shown(path, [0.0, 0.2, 0.8, 1.0, 1.2]) == [True, False, False, True, False]


def test_what_is_no_alpha(tmp_path: Path) -> None:
    """Other things may stand beside a packet, each with a number of its own."""
    path = red_webm(tmp_path / "clip.webm", "libvpx", [bytes(20)] * 5)
    assert path.read_bytes().count(b"\xee\x81\x01") == 5
    path.write_bytes(path.read_bytes().replace(b"\xee\x81\x01", b"\xee\x81\x07"))
    assert shown(path, [0.0]) == [True]


@VPX
def test_alpha_that_cannot_be_decoded_costs_its_moment(tmp_path: Path, codec: str) -> None:
    alphas = [bytes(packet) for packet in alpha_packets(codec, [255] * 3 + [0] * 7, 1)]
    path = red_webm(tmp_path / "clip.webm", codec, [*alphas[:3], b"\xff" * 20, *alphas[4:]])
    assert shown(path, [0.4, 0.6, 0.8]) == [True, True, False]
    broken = red_webm(tmp_path / "broken.webm", codec, [b"\xff" * 20] * 10)
    with pytest.raises(ConfigError, match="none of its pictures can be decoded"):
        shown(broken, [0.0])


@VPX
def test_alpha_of_another_size(tmp_path: Path, codec: str) -> None:
    """It is left out; and is not decoded where it is larger than what is allowed."""
    alphas = [bytes(packet) for packet in alpha_packets(codec, [0] * 10, 1, size=8)]
    path = red_webm(tmp_path / "clip.webm", codec, alphas)
    assert shown(path, [0.0, 1.0]) == [True, True]
    allowed = Limits({}, (), WIDTH * HEIGHT, 60.0)
    with pytest.raises(ConfigError, match="none of its pictures can be decoded"):
        shown(Source(path, limits=allowed), [0.0])
