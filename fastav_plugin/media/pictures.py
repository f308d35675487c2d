"""Picture files, still or animated, as a viewer shows them."""

import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.installation import install_hint
from fastav_plugin.media.files import AnySource, Source, kind_of, logger, pillow
from fastav_plugin.media.presentation import BACKGROUND, Frames, over_background
from fastav_plugin.media.timeline import shown_at

#: Pillow's formats of pictures; each knows its files by their first bytes.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO")
#: Brands of HEIC, as pillow-heif reads them.
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
#: Milliseconds: a shorter delay stands for a tenth of a second, as browsers have it.
_SHORTEST, _USUAL = 10.0, 100.0
#: Pillow has one switch for the whole process.
_truncated = threading.Lock()


def read_image(source: AnySource) -> Frames:
    """Read a picture file: uint8 [H, W, 3], RGB, upright, over white where it is transparent.

    Of an animated one the first picture.

    Raises:
        ConfigError: it is no picture that Pillow knows, or is damaged.
        UnsupportedError: HEIC without pillow-heif.
    """
    source = Source.of(source)
    if source.allow_damaged:
        try:
            return read_image(replace(source, allow_damaged=False))
        except ConfigError:
            logger.warning("%s: it is damaged; what can be decoded is used.", source.name)
    with _decoding(source), _open(source) as image:
        return _rgb(source, image)


def is_picture(source: AnySource) -> bool:
    """Whether a file is a picture, still or animated; ConfigError if there is none."""
    pillow()
    from PIL import Image

    source = Source.of(source)
    try:
        with source.open() as file:
            start = file.read(16)
            if start[4:8] == b"ftyp":
                return start[8:12] in (*HEIC, b"avif", b"avis")
            file.seek(0)
            with Image.open(file, formats=_formats(source)):
                return True
    except (OSError, ValueError, SyntaxError):
        if not isinstance(source.content, bytes) and not source.content.is_file():
            raise source.fault("there is no such file") from None
        return False
    except Image.DecompressionBombError:
        return True


class Animation:
    """One pass through the loop of an animated picture; a still one is shown without end.

    Attributes:
        starts: when each picture is shown first, in seconds.
        end: when the last one ends; 0 for a still picture.
    """

    def __init__(self, source: AnySource) -> None:
        self.source = Source.of(source)
        self.starts = []
        self.end = 0.0
        self._first = 0
        with _decoding(self.source), _open(self.source) as image:
            pictures = getattr(image, "n_frames", 1)
            # PNG may have a picture for viewers that show no animation, which is no part of it.
            self._first = int(bool(image.info.get("default_image")))
            for number in range(self._first, pictures if pictures > 1 else 0):
                image.seek(number)
                image.load()
                delay = float(image.info.get("duration") or 0)
                self.starts.append(self.end)
                self.end += (delay if delay > _SHORTEST else _USUAL) / 1000
                self._check_seconds()
        self.starts = self.starts or [0.0]

    def _check_seconds(self) -> None:
        limits = self.source.limits
        if limits is not None and self.end > limits.seconds:
            raise self.source.fault(f"it lasts longer than {limits.seconds:g} s")

    def show(self, times: Sequence[float]) -> Iterator[Frames]:
        """The pictures shown at some times, ascending, in seconds: uint8 [H, W, 3] each."""
        with ExitStack() as stack:
            with _decoding(self.source):
                image = stack.enter_context(_open(self.source))
            found, picture = -1, None
            for number in shown_at(self.starts, times):
                if number != found or picture is None:
                    with _decoding(self.source):
                        image.seek(self._first + number)
                        found, picture = number, _rgb(self.source, image)
                yield picture


#: What a file is that was given as a picture.
_NOT_A_PICTURE = {
    "video": "it is a video: give it as one (`--video`)",
    "audio": "it is a sound: give it as one (`--audio`)",
}


@contextmanager
def _open(source: Source) -> Iterator[Any]:
    from PIL import Image

    source.check_whole()
    with source.open() as file:
        start = file.read(16)
        file.seek(0)
        limits = source.limits
        heic = start[4:8] == b"ftyp" and start[8:12] in HEIC
        with warnings.catch_warnings():
            if limits is None:  # a user's own picture may be large
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = _heic(source, file) if heic else Image.open(file, formats=_formats(source))
        with image:
            if limits is not None and image.width * image.height > limits.pixels:
                raise source.fault(f"{image.width} x {image.height} pixels are too many")
            yield image


def _formats(source: Source) -> list[str]:
    """The formats that are read, as far as this Pillow knows them."""
    from PIL import Image

    Image.init()
    wanted = FORMATS if source.limits is None else source.limits.picture_formats
    return [name for name in wanted if name in Image.OPEN]


def _heic(source: Source, file: Any) -> Any:
    if source.limits is not None and "HEIF" not in source.limits.picture_formats:
        raise source.fault("it is a HEIC picture, which is not read here")
    try:
        # Not its plugin for Pillow, whose import changes what Pillow opens in the whole process.
        import pillow_heif
    except ImportError as error:
        raise UnsupportedError(
            f"{source.name} is a HEIC picture, which needs pillow-heif. {install_hint('heic')}"
        ) from error
    opener: Any = pillow_heif.HeifImageFile
    return opener(file)


@contextmanager
def _decoding(source: Source) -> Iterator[None]:
    """Pillow's errors, of which there are many, as one that names the file."""
    pillow()
    from PIL import Image, ImageFile, UnidentifiedImageError

    try:
        if source.allow_damaged:
            with _truncated:
                before = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = True
                try:
                    yield
                finally:
                    ImageFile.LOAD_TRUNCATED_IMAGES = before
        else:
            yield
    except (ConfigError, UnsupportedError):
        raise
    except UnidentifiedImageError as error:
        reason = "it is no picture of a known format"
        if source.content and not isinstance(source.content, bytes):
            reason += ", or only the beginning of one"
            reason = _NOT_A_PICTURE.get(kind_of(source), reason)
        raise source.fault(reason) from error
    except FileNotFoundError as error:
        raise source.fault("there is no such file") from error
    except Image.DecompressionBombError as error:
        size, most = (int(number) for number in re.findall(r"\d+", str(error))[:2])
        raise source.fault(
            f"it has {size} pixels and at most {most} are read; scale it down"
        ) from error
    except Exception as error:  # decoders of damaged bytes raise anything
        if isinstance(error, OSError) and error.strerror:
            raise source.fault(error.strerror.lower()) from error
        cut = any(word in str(error).lower() for word in ("truncat", "premature", "incomplete"))
        reason = "it is cut off" if cut else f"it is damaged ({str(error).rstrip('.')})"
        raise source.damage(reason) from error


def _rgb(source: Source, image: Any) -> Frames:
    """A picture of Pillow as it is seen: uint8 [H, W, 3]."""
    from PIL import ImageOps

    image.load()
    form = image.format
    image = ImageOps.exif_transpose(image)
    # Pillow gives 16 bits of PPM as 32.
    if image.mode.startswith("I;16") or (image.mode == "I" and form == "PPM"):
        return _from_16_bits(np.asarray(image), image.info.get("transparency"))
    if image.mode in ("I", "F"):
        raise source.fault(
            "it has one channel of 32 bits, of which nobody says what is white; convert it to 8 or "
            "16 bits"
        )
    if image.has_transparency_data:
        return over_background(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))  # writable, as PyTorch wants it


def _from_16_bits(grey: Any, transparent: Any) -> Frames:
    """Levels [H, W], of which one may be transparent; Pillow would make all above 255 white."""
    levels = ((grey.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    seen = np.repeat(levels[..., None], 3, axis=2)
    if isinstance(transparent, int):
        seen[grey == transparent] = BACKGROUND
    return seen
