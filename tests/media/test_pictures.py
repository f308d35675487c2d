"""Picture files as a viewer shows them, against Pillow's own view of what was drawn."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageFile, ImageOps

from fastav_plugin import ConfigError, UnsupportedError
from fastav_plugin.media.files import Limits, Source
from fastav_plugin.media.pictures import FORMATS, Animation, is_picture, read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def drawing() -> Any:
    """Four corners of different colours, 40 high and 60 wide."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30], pixels[:20, 30:], pixels[20:, :30] = RED, GREEN, BLUE
    pixels[20:, 30:] = WHITE
    return Image.fromarray(pixels)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(tmp_path: Path, ending: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"picture.{ending}"
    options = {"lossless": True} if ending == "webp" else {}
    drawing().save(path, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert expected.shape == ((60, 40, 3) if orientation > 4 else (40, 60, 3))
    assert np.array_equal(read_image(path), expected)


def test_sixteen_bits_of_grey_are_levels_not_white(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for ending in ("png", "tiff"):
        Image.fromarray(levels).save(tmp_path / f"grey.{ending}")
        found = read_image(tmp_path / f"grey.{ending}")
        assert np.array_equal(found[..., 1].reshape(-1), np.arange(256))


def test_sixteen_bits_of_other_files(tmp_path: Path) -> None:
    """PPM states what is white; one level of PNG may be transparent."""
    (tmp_path / "grey.pgm").write_bytes(b"P5 3 1 4095\n" + bytes([0, 0, 8, 0, 15, 255]))
    assert read_image(tmp_path / "grey.pgm")[0, :, 0].tolist() == [0, 128, 255]
    levels = Image.fromarray(np.array([[0, 1000, 65535]], np.uint16))
    levels.save(tmp_path / "glass.png", transparency=1000)
    assert read_image(tmp_path / "glass.png")[0, :, 0].tolist() == [0, 255, 255]


def test_too_many_pixels_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing().save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ConfigError, match="it has 2400 pixels and at most 2000 are read; scale"):
        read_image(tmp_path / "large.png")


def test_a_picture_beside_the_animation_is_no_part_of_it(tmp_path: Path) -> None:
    path = frames(tmp_path, "png", [1000, 200, 700], default_image=True)
    moving = Animation(path)
    assert moving.starts == [0, 1]
    assert moving.end == pytest.approx(1.2)
    assert [tuple(picture[5, 5]) for picture in moving.show([0.5, 1.1])] == [GREEN, BLUE]
    assert tuple(read_image(path)[5, 5]) == RED


def test_a_channel_of_32_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(ConfigError, match=r"depth\.tiff': it has one channel of 32 bits"):
        read_image(tmp_path / "depth.tiff")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    alpha = Image.fromarray(np.repeat(np.array([0, 128, 255], np.uint8), 20)[None].repeat(40, 0))
    picture = Image.new("RGB", (60, 40), (0, 0, 0)).convert("L" if mode == "LA" else "RGB")
    picture.putalpha(alpha)
    if mode == "PA":
        picture = picture.quantize(colors=16)
    picture.save(tmp_path / "glass.png")
    found = read_image(tmp_path / "glass.png")
    assert [int(found[20, x, 0]) for x in (5, 30, 55)] == pytest.approx([255, 127, 0], abs=1)


def test_inks_and_palettes(tmp_path: Path) -> None:
    drawing().convert("CMYK").save(tmp_path / "inks.jpg", quality=100)
    drawing().quantize(8).save(tmp_path / "palette.png")
    drawing().convert("1").save(tmp_path / "bits.png")
    for name in ("inks.jpg", "palette.png"):
        difference = read_image(tmp_path / name).astype(int) - np.asarray(drawing())
        assert abs(difference[5:15, 5:25]).max() < 12
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (3, 9), (3, 3), (1, 1)])
def test_small_pictures_keep_their_layout(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    assert np.array_equal(read_image(tmp_path / "small.png"), pixels)


def test_tiles_make_one_picture(tmp_path: Path) -> None:
    """What phones write: a grid of tiles; FFmpeg gives the first one alone."""
    large = drawing().resize((600, 400), Image.Resampling.NEAREST)
    pillow_heif.from_pillow(large).save(tmp_path / "tiles.heic", quality=95, tile_size=256)
    found = read_image(tmp_path / "tiles.heic")
    assert found.shape == (400, 600, 3)
    for place, colour in (((50, 50), RED), ((50, 550), GREEN), ((350, 50), BLUE)):
        assert abs(found[place].astype(int) - colour).max() < 12
    assert "HEIF" not in Image.OPEN  # nothing was changed in Pillow
    whole = (tmp_path / "tiles.heic").read_bytes()
    (tmp_path / "cut.heic").write_bytes(whole[: len(whole) - 20])
    with pytest.raises(ConfigError, match=r"cut\.heic': it is cut off"):
        read_image(tmp_path / "cut.heic")


def test_heic_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif.from_pillow(drawing()).save(tmp_path / "photo.heic")
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(UnsupportedError, match=r"HEIC picture, which needs pillow-heif.*\[heic\]"):
        read_image(tmp_path / "photo.heic")


def frames(folder: Path, ending: str, delays: list[int], **options: Any) -> Path:
    """An animated picture: red, green, blue ..."""
    colours = [RED, GREEN, BLUE, WHITE]
    first, *rest = [Image.new("RGB", (32, 24), colours[i % 4]) for i in range(len(delays))]
    path = folder / f"moving.{ending}"
    first.save(path, save_all=True, append_images=rest, duration=delays, loop=0, **options)
    return path


@pytest.mark.parametrize(
    ("ending", "options"),
    [("gif", {}), ("png", {}), ("webp", {"lossless": True}), ("avif", {"quality": 100})],
)
def test_animated_pictures_keep_their_times(
    tmp_path: Path, ending: str, options: dict[str, Any]
) -> None:
    path = frames(tmp_path, ending, [1000, 200, 700], **options)
    assert is_picture(path)
    moving = Animation(path)
    assert moving.starts == pytest.approx([0, 1, 1.2])
    assert moving.end == pytest.approx(1.9)
    shown = [picture[5, 5] for picture in moving.show([0, 0.5, 0.99, 1.0, 1.19, 1.2, 1.8])]
    colours = [RED, RED, RED, GREEN, GREEN, BLUE, BLUE]
    assert np.abs(np.array(shown).astype(int) - np.array(colours)).max() < 8
    assert np.abs(read_image(path)[5, 5].astype(int) - RED).max() < 8


def test_a_clip_that_is_not_read_to_its_end_is_in_nobodys_way(tmp_path: Path) -> None:
    """Damaged pictures are read under a switch of the whole process."""
    path = frames(tmp_path, "gif", [1000, 200, 700])
    half = Animation(Source(path, allow_damaged=True)).show([0, 1, 1.5])
    next(half)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert read_image(Source(path, allow_damaged=True)).shape == (24, 32, 3)


def test_no_delay_is_a_tenth_of_a_second(tmp_path: Path) -> None:
    assert Animation(frames(tmp_path, "gif", [10, 0, 20])).starts == pytest.approx([0, 0.1, 0.2])
    assert Animation(frames(tmp_path, "gif", [10, 0, 20])).end == pytest.approx(0.22)


def test_a_still_picture_is_shown_without_end(tmp_path: Path) -> None:
    drawing().save(tmp_path / "still.png")
    still = Animation(tmp_path / "still.png")
    assert (still.starts, still.end) == ([0.0], 0.0)
    assert len(list(still.show([0, 5, 100]))) == 3


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tiff", "avif", "jp2"])
def test_a_picture_of_which_a_part_is_missing(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (112, 160, 3)).astype(np.uint8)
    path = tmp_path / f"half.{ending}"
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=rf"half\.{ending}': .*`--allow-damaged`"):
        read_image(path)
    if ending in ("jpg", "png", "bmp"):
        found = read_image(Source(path, allow_damaged=True))
        assert found.shape == (112, 160, 3)
        assert max(found[:20].std(), found[-20:].std()) > 10
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, reason in (
        ("page.jpg", "it is no picture of a known format"),
        ("empty.png", "it is empty"),
        ("absent.png", "there is no such file"),
    ):
        with pytest.raises(ConfigError, match=rf"Cannot read the media file '.*{name}': {reason}"):
            read_image(tmp_path / name)
    assert not is_picture(tmp_path / "page.jpg")
    with pytest.raises(ConfigError, match="no such file"):
        is_picture(tmp_path / "absent.png")


def test_limits_come_before_the_work(tmp_path: Path) -> None:
    content = io.BytesIO()
    drawing().save(content, "PNG")

    def limited(formats: tuple[str, ...], pixels: int, seconds: float = 1.0) -> Limits:
        return Limits({}, formats, pixels, seconds)

    whole = Source(content.getvalue(), limits=limited(("PNG",), 2400))
    assert read_image(whole).shape == (40, 60, 3)
    with pytest.raises(ConfigError, match="the medium: 60 x 40 pixels are too many"):
        read_image(Source(content.getvalue(), limits=limited(("PNG",), 2399)))
    with pytest.raises(ConfigError, match="no picture of a known format"):
        read_image(Source(content.getvalue(), limits=limited(("JPEG",), 2400)))
    moving = frames(tmp_path, "gif", [600, 600]).read_bytes()
    with pytest.raises(ConfigError, match="lasts longer than 1 s"):
        Animation(Source(moving, limits=limited(("GIF",), 2400)))
    pillow_heif.from_pillow(drawing()).save(tmp_path / "photo.heic")
    photo = (tmp_path / "photo.heic").read_bytes()
    with pytest.raises(ConfigError, match="a HEIC picture, which is not read here"):
        read_image(Source(photo, limits=limited(("PNG",), 2400)))
    assert read_image(Source(photo, limits=limited(("HEIF",), 2400))).shape == (40, 60, 3)


def test_pillow_knows_every_format() -> None:
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


def test_a_damaged_picture_that_is_used_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    read_image(Source(tmp_path / "whole.png", allow_damaged=True))
    assert not caplog.records
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    read_image(Source(tmp_path / "half.png", allow_damaged=True))
    assert caplog.messages == [
        f"'{tmp_path / 'half.png'}': it is damaged; what can be decoded is used."
    ]
