"""Media files as they are opened, and their faults as one error that names the file."""

import importlib.util
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.installation import install_hint
from fastav_plugin.media.completeness import EMPTY, missing_part

#: What the reader remarks, such as a default sound track that is silent.
logger = logging.getLogger("fastav_plugin.media")

_purpose: ContextVar[str] = ContextVar("fastav_purpose", default="")


@contextmanager
def reading_for(purpose: str) -> Iterator[None]:
    """Files are read for this while the block runs, such as the line of a data file."""
    before = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(before)


def with_purpose(text: str) -> str:
    """What the reader remarks, behind what it reads for in this context."""
    return ": ".join(filter(None, [_purpose.get(), text]))


_NO_MEDIA = "it holds text, no media"
#: Formats of FFmpeg that draw the letters of a text, and those that are a text about media.
_TEXT = ("tty", "bin", "xbin", "adf", "idf")
_LISTS = ("hls", "concat", "dash", "sdp")
#: The option of every command that sets `Source.allow_damaged`.
REMEDY = (
    "Get a whole copy of it, or use what can be decoded with `--allow-damaged` (in Python: "
    "Source(path, allow_damaged=True))."
)


@dataclass(frozen=True)
class Limits:
    """What may be done with an untrusted file; each is checked before the work it bounds.

    Attributes:
        options: of `av.open`, such as `format_whitelist`.
        picture_formats: names of Pillow's formats.
        pixels: of one picture, as it is presented and as a decoder makes room for it.
        seconds: of the timeline.
        check_sound: called with each decoded audio frame of PyAV before it is resampled; None for
            no more than the limits above.
    """

    options: Mapping[str, str]
    picture_formats: tuple[str, ...]
    pixels: int
    seconds: float
    check_sound: Callable[[Any], None] | None = None


@dataclass(frozen=True)
class Source:
    """One media file, and how it is read.

    Attributes:
        content: path of the file, or its bytes.
        allow_damaged: whether what can be decoded of a damaged file is used; else it is an error.
        limits: of an untrusted file.
    """

    content: Path | bytes
    allow_damaged: bool = False
    limits: Limits | None = None

    @classmethod
    def of(cls, source: "str | Path | Source") -> "Source":
        """A path as a Source; one that is given stays as it is."""
        return source if isinstance(source, Source) else cls(Path(source))

    @property
    def name(self) -> str:
        """For messages."""
        return "the medium" if isinstance(self.content, bytes) else f"'{self.content}'"

    def open(self) -> Any:
        """The file, binary, at its beginning; the caller closes it."""
        return (
            io.BytesIO(self.content)
            if isinstance(self.content, bytes)
            else open(self.content, "rb")
        )

    def fault(self, reason: str) -> ConfigError:
        """The error for a file that cannot be read; `reason` is a clause such as "it is empty"."""
        return ConfigError(f"Cannot read the media file {self.name}: {reason}.")

    def damage(self, reason: str) -> ConfigError:
        """The error for a file of which a part can be read; an untrusted one has no remedy."""
        if self.limits is not None:
            return self.fault(reason)
        return ConfigError(f"Cannot read the media file {self.name}: {reason}. {REMEDY}")

    def lacks(self, failed: int, sent: int, *, of: str, instead: str) -> None:
        """Name packets that could not be decoded, and what is taken in their place.

        Raises:
            ConfigError: it is more than half of them, unless that is allowed.
        """
        reason = f"{failed} of {sent} packets of its {of} cannot be decoded"
        if 2 * failed > sent and not self.allow_damaged:
            raise self.damage(reason)
        if failed:
            logger.warning("%s: %s; %s.", self.name, reason, instead)

    def check_whole(self) -> bool:
        """Whether the file ends where its own header says; else ConfigError unless allowed."""
        with self.open() as file:
            reason = missing_part(file)
        if reason == EMPTY:
            raise self.fault(reason)
        if reason is not None and not self.allow_damaged:
            raise self.damage(reason)
        if reason is not None:
            logger.warning("%s: %s.", self.name, reason)
        return reason is None


AnySource = str | Path | Source


def pyav() -> Any:
    """The module `av`."""
    try:
        import av
    except ImportError as error:
        raise UnsupportedError(
            f"Reading media files needs PyAV. {install_hint('media')}"
        ) from error
    return av


def pillow() -> Any:
    """The package `PIL`."""
    try:
        import PIL
    except ImportError as error:
        raise UnsupportedError(
            f"Reading media files needs Pillow. {install_hint('media')}"
        ) from error
    return PIL


@contextmanager
def faults_named(source: Source) -> Iterator[None]:
    """Whatever PyAV or the disk raises while the block runs becomes a ConfigError."""
    av = pyav()
    try:
        yield
    except ConfigError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise source.fault(_reason(source, error)) from error


@contextmanager
def opened(source: AnySource) -> Iterator[Any]:
    """An open container of PyAV; its faults become a ConfigError that names the file."""
    source = Source.of(source)
    av = pyav()
    with faults_named(source):
        options = {} if source.limits is None else dict(source.limits.options)
        whole = source.content
        file = io.BytesIO(whole) if isinstance(whole, bytes) else str(whole)
        with av.open(file, options=options, metadata_errors="ignore") as container:
            name = container.format.name
            if name in _TEXT or (name not in _LISTS and _is_text(source)):
                raise source.fault(_NO_MEDIA)
            yield container


def kind_of(source: Source) -> str:
    """What FFmpeg finds in a file of the user's: "video", "audio", or "" for neither."""
    if source.limits is not None or importlib.util.find_spec("av") is None:
        return ""
    try:
        with opened(source) as container:
            kinds = {stream.type for stream in container.streams}
    except ConfigError:
        return ""
    return "video" if "video" in kinds else "audio" if "audio" in kinds else ""


def _reason(source: Source, error: Exception) -> str:
    """Why a file cannot be read, in words."""
    try:
        with source.open() as file:
            missing = missing_part(file)
    except OSError as failed:
        return _lower(failed.strerror or str(failed))
    if missing is not None:
        rest = "" if missing == EMPTY else ", and nothing can be decoded without the rest"
        return missing + rest
    if _is_text(source):
        return _NO_MEDIA
    message = getattr(error, "strerror", None) or str(error)
    return f"its format is not known, or it is damaged ({_lower(message)})"


def _is_text(source: Source) -> bool:
    with source.open() as file:
        start = file.read(512)
    if not start or any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start):
        return False
    try:
        start[:500].decode()
    except UnicodeDecodeError as error:
        return error.start > 490  # a letter that was cut
    return True


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")
