"""What decoding an untrusted medium would take, found before any of it is decoded."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.media.clips import ClipFile
from fastav_plugin.media.completeness import missing_part
from fastav_plugin.media.files import Source
from fastav_plugin.media.pictures import HEIC, is_picture
from fastav_plugin.media.sound import SAMPLE_RATE
from fastav_plugin.media.timeline import count_samples, spread
from fastav_plugin.media.video import FRAMES_PER_SECOND
from fastav_plugin.serving.media.avif import decoded_pixels
from fastav_plugin.serving.media.headers import gif_pictures, jpeg_passes
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy, variable
from fastav_plugin.serving.media.streams import EDGE, PICTURES, read_streams, untrusted_source

#: Brands of HEIC and of animated AVIF, of which FFmpeg and Pillow would open some.
_UNBOUNDED = (b"avis", *HEIC)
_AVIF = b"avif"
#: Pixels that AVIF decodes for each one shown: alpha, a thumbnail, and edges of tiles.
_PARTS = 4
#: Codecs whose frames cost what their pixels say; one of JPEGs may pass over each for long.
VIDEO_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video")
#: Scans of a JPEG; encoders make about ten.
_PASSES = 30


@dataclass(frozen=True)
class Measured:
    """A medium that may be decoded.

    Attributes:
        source: for the reader, with the limits of this medium.
        size: bytes that it takes once it is decoded, at most.
        clip: of an animated picture: its timeline, which takes decoding all of it to find.
    """

    source: Source
    size: int
    clip: ClipFile | None = None


@dataclass(frozen=True)
class Sampling:
    """What is taken of a video: frames of each second, and at most so many, spread evenly."""

    fps: float = float(FRAMES_PER_SECOND)
    max_frames: int | None = None


#: Two frames of each second.
EACH_HALF_SECOND = Sampling()


def measure(
    kind: str, data: bytes, policy: MediaPolicy, sampling: Sampling = EACH_HALF_SECOND
) -> Measured:
    """Measure an untrusted medium.

    Args:
        kind: "image", "video" or "audio".
        data: the medium as it is encoded.
        policy: how large it may be.
        sampling: of a video.

    Raises:
        MediaError: it is too large, or damaged.
        UnsupportedError: what reads media is not installed.
    """
    if kind not in ("image", "video", "audio"):
        raise MediaError(f"'{kind}' is none of image, video and audio.")
    _check_installed()
    with refusing(kind, data):
        _check_format(data, policy)
        if kind == "image":
            return _picture(data, policy)
        if kind == "audio":
            return _sound(data, policy)
        animated = is_picture(untrusted_source(data, policy, policy.max_pixels))
        return (_animation if animated else _clip)(data, policy, sampling)


@contextmanager
def refusing(kind: str, data: bytes | None = None) -> Iterator[None]:
    """Whatever a reader of untrusted bytes raises while the block runs becomes a MediaError.

    Where the bytes are given, it says what is missing of them.
    """
    what = "it is no picture that can be read" if kind == "image" else "it cannot be decoded"
    try:
        yield
    except (MediaError, UnsupportedError):
        raise
    except ConfigError as error:
        name = Source(b"").name
        reason = str(error).removeprefix(f"Cannot read the media file {name}: ")
        raise MediaError(f"{what}: {reason}") from error
    except Exception as error:  # a decoder of untrusted bytes may raise anything
        missing = None if data is None else missing_part(io.BytesIO(data))
        if missing is None and type(error).__name__ == "UnidentifiedImageError":
            missing = "its format is not known"
        if missing is None and type(error).__name__ == "DecompressionBombError":
            missing = "it has too many pixels"
        raise MediaError(f"{what} ({missing or type(error).__name__}).") from error


def _check_format(data: bytes, policy: MediaPolicy) -> None:
    """Refuse what may hold any number of pixels, whatever the header of the picture says."""
    if data[4:8] != b"ftyp":
        return
    if data[8:12] in _UNBOUNDED:
        name = "an animation of AVIF" if data[8:12] == b"avis" else "HEIC"
        raise MediaError(f"it is no picture that can be read: {name} is not. Send PNG or JPEG.")
    if data[8:12] == _AVIF:
        pixels = decoded_pixels(data)
        if pixels > _PARTS * policy.max_pixels:
            raise MediaError(
                f"{pixels} pixels of its parts are more than the {_PARTS * policy.max_pixels} that "
                f"are allowed ({_PARTS} x {variable('max_pixels')}).",
                reason="limit",
            )


def _picture(data: bytes, policy: MediaPolicy) -> Measured:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=PICTURES) as picture:
        width, height = picture.size
        policy.check_pixels(width, height)
        policy.check_bytes(width * height * 3, "bytes of the picture")
        # Each pass over a progressive picture takes as long as all of it, and few bytes.
        if picture.format in ("JPEG", "MPO") and jpeg_passes(data) > _PASSES:
            raise MediaError(f"it has more than {_PASSES} passes.", reason="limit")
    return Measured(untrusted_source(data, policy, policy.max_pixels), width * height * 3)


def _animation(data: bytes, policy: MediaPolicy, sampling: Sampling) -> Measured:
    """An animated picture, or a still one, as a clip."""
    from PIL import Image

    _picture(data, policy)
    with Image.open(io.BytesIO(data), formats=PICTURES) as picture:
        width, height = picture.size
        if picture.format == "GIF":
            count, width, height = gif_pictures(data, policy.max_frames)
        else:
            count = getattr(picture, "n_frames", 1)
    if count > policy.max_frames:
        raise MediaError(
            f"it has more than the {policy.max_frames} frames that are allowed "
            f"({variable('max_frames')}).",
            reason="limit",
        )
    policy.check_pixels(width, height)
    policy.check_all_pixels(count * width * height)
    source = untrusted_source(data, policy, policy.max_pixels)
    clip = ClipFile(source)  # which decodes each of them
    policy.check_seconds(clip.seconds)
    return Measured(source, _taken_bytes(clip.seconds, width * height, sampling, policy), clip)


def _clip(data: bytes, policy: MediaPolicy, sampling: Sampling) -> Measured:
    tracks, streams = read_streams(data, policy)
    if tracks.pictures is None:
        raise MediaError("it holds no pictures.")
    stream = streams[tracks.pictures.stream]
    policy.check_pixels(stream.width, stream.height)
    if stream.codec not in VIDEO_CODECS:
        raise MediaError(f"its codec {stream.codec!r} is none of {', '.join(VIDEO_CODECS)}.")
    policy.check_seconds(tracks.seconds)
    pixels = stream.width * stream.height
    policy.check_all_pixels(stream.packets * pixels)
    shown = round(pixels * stream.stretch)
    if shown > policy.max_pixels:
        raise MediaError(
            f"{shown} pixels of a frame as it is shown are more than the {policy.max_pixels} that "
            f"are allowed ({variable('max_pixels')}).",
            reason="limit",
        )
    size = _taken_bytes(tracks.seconds, shown, sampling, policy)
    # Frames may grow after the header, as far as the same limits hold for all of them.
    taken = max(1, size // max(1, 3 * shown))
    room = min(
        policy.max_pixels,
        policy.max_video_pixels // stream.packets,
        policy.max_decoded_bytes // (3 * taken),
    )
    room = max(room, (stream.width + EDGE) * (stream.height + EDGE))
    if tracks.sound is not None:
        size += _sound_bytes(tracks.seconds)
        policy.check_bytes(size, "bytes of its frames and its sound")
    return Measured(untrusted_source(data, policy, room), size)


def _sound(data: bytes, policy: MediaPolicy) -> Measured:
    tracks, _ = read_streams(data, policy)
    if tracks.sound is None:
        raise MediaError("it holds no sound.")
    policy.check_seconds(tracks.sound.end)
    size = _sound_bytes(tracks.sound.end)
    policy.check_bytes(size, "bytes of the sound")
    return Measured(untrusted_source(data, policy, policy.max_pixels), size)


def _taken_bytes(seconds: float, pixels: int, sampling: Sampling, policy: MediaPolicy) -> int:
    """Bytes of the frames that are taken of so many seconds, one of which may be shown often."""
    taken = len(spread(count_samples(seconds, sampling.fps), sampling.max_frames))
    size = taken * pixels * 3
    policy.check_bytes(size, "bytes of the frames taken of it")
    return size


def _sound_bytes(seconds: float) -> int:
    return math.ceil(seconds * SAMPLE_RATE) * 4


def _check_installed() -> None:
    try:
        import av  # noqa: F401
    except ImportError as error:
        # Clients read this: it must not name a path of the server.
        raise UnsupportedError(
            "Reading media needs PyAV: the server lacks the extra 'media' of fastav-plugin."
        ) from error
