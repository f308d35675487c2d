"""What decoding an untrusted medium would take, found before any of it is decoded."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.media.completeness import missing_part
from fastav_plugin.media.files import Limits, Source, opened
from fastav_plugin.media.pictures import Animation, is_picture
from fastav_plugin.media.sound import SAMPLE_RATE
from fastav_plugin.media.timeline import count_samples, spread
from fastav_plugin.media.tracks import Tracks, read_tracks
from fastav_plugin.media.video import FRAMES_PER_SECOND
from fastav_plugin.serving.media.avif import decoded_pixels
from fastav_plugin.serving.media.headers import (
    PACKED,
    gif_pictures,
    jpeg_passes,
    listed_samples,
    listed_tags,
)
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy

#: Samples per second of a sound that is read; of few, resampling makes very many.
SLOWEST, FASTEST = 1_000, 768_000
#: Pillow's formats whose header says how large a picture becomes.
PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
#: Brands of HEIC and of animated AVIF, of which FFmpeg and Pillow would open some.
_UNBOUNDED: tuple[bytes, ...] = (
    b"avis",
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
    b"mif1",
    b"msf1",
)
_AVIF = b"avif"
#: Pixels that AVIF decodes for each one shown: alpha, a thumbnail, and edges of tiles.
_PARTS = 4
#: Containers that hold media and name no other file; playlists would make the server fetch them.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,wav,mp3,flac,ogg,aac"
#: Codecs whose frames cost what their pixels say; one of JPEGs may pass over each for long.
VIDEO_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video")
#: Scans of a JPEG; encoders make about ten.
_PASSES = 30
#: Packets of a second of all sounds in a file; the shortest ones that encoders make last 2.5 ms.
_PACKETS = 1_000
#: Tags of a file; FFmpeg compares each with all before it.
_TAGS = 4096
#: Seconds by which codecs may lengthen a sound to fill their last packet.
_PADDING = 0.5
#: Pixels by which a decoder may round an edge up.
_EDGE = 128
#: Pixels of other shapes than a player believes are square.
_MOST_STRETCH = 16


@dataclass(frozen=True)
class Measured:
    """A medium that may be decoded.

    Attributes:
        source: for the reader, with the limits of this medium.
        size: bytes that it takes once it is decoded, at most.
    """

    source: Source
    size: int


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
        animated = is_picture(_source(data, policy, policy.max_pixels))
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
                "are allowed."
            )


def _picture(data: bytes, policy: MediaPolicy) -> Measured:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=PICTURES) as picture:
        width, height = picture.size
        _check_pixels(width, height, policy)
        _check_bytes(width * height * 3, "bytes of the picture", policy)
        # Each pass over a progressive picture takes as long as all of it, and few bytes.
        if picture.format in ("JPEG", "MPO") and jpeg_passes(data) > _PASSES:
            raise MediaError(f"it has more than {_PASSES} passes.")
    return Measured(_source(data, policy, policy.max_pixels), width * height * 3)


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
        raise MediaError(f"it has more than the {policy.max_frames} frames that are allowed.")
    _check_pixels(width, height, policy)
    _check_all_pixels(count * width * height, policy)
    source = _source(data, policy, policy.max_pixels)
    seconds = Animation(source).end  # which decodes each of them
    _check_seconds(seconds, policy)
    return Measured(source, _taken_bytes(seconds, width * height, sampling, policy))


def _clip(data: bytes, policy: MediaPolicy, sampling: Sampling) -> Measured:
    tracks, streams = _tracks(data, policy)
    if tracks.pictures is None:
        raise MediaError("it holds no pictures.")
    stream = streams[tracks.pictures.stream]
    _check_pixels(stream.width, stream.height, policy)
    if stream.codec not in VIDEO_CODECS:
        raise MediaError(f"its codec {stream.codec!r} is none of {', '.join(VIDEO_CODECS)}.")
    _check_seconds(tracks.seconds, policy)
    pixels = stream.width * stream.height
    _check_all_pixels(stream.packets * pixels, policy)
    shown = round(pixels * stream.stretch)
    if shown > policy.max_pixels:
        raise MediaError(
            f"{shown} pixels of a frame as it is shown are more than the {policy.max_pixels} that "
            "are allowed."
        )
    size = _taken_bytes(tracks.seconds, shown, sampling, policy)
    # Frames may grow after the header, as far as the same limits hold for all of them.
    taken = max(1, size // max(1, 3 * shown))
    room = min(
        policy.max_pixels,
        policy.max_video_pixels // stream.packets,
        policy.max_decoded_bytes // (3 * taken),
    )
    room = max(room, (stream.width + _EDGE) * (stream.height + _EDGE))
    if tracks.sound is not None:
        size += _sound_bytes(tracks.seconds)
        _check_bytes(size, "bytes of its frames and its sound", policy)
    return Measured(_source(data, policy, room), size)


def _sound(data: bytes, policy: MediaPolicy) -> Measured:
    tracks, _ = _tracks(data, policy)
    if tracks.sound is None:
        raise MediaError("it holds no sound.")
    _check_seconds(tracks.sound.end, policy)
    size = _sound_bytes(tracks.sound.end)
    _check_bytes(size, "bytes of the sound", policy)
    return Measured(_source(data, policy, policy.max_pixels), size)


@dataclass
class _Stream:
    """What the header says of a video stream, and its packets."""

    codec: str
    width: int
    height: int
    stretch: float  # pixels as shown for each one as decoded, at most
    listed: int
    packets: int = 0


def _tracks(data: bytes, policy: MediaPolicy) -> tuple[Tracks, dict[int, _Stream]]:
    """The tracks of a container, once its packets were counted; none is decoded for it."""
    most = policy.max_frames + int(_PACKETS * policy.max_seconds)
    if PACKED.search(data):
        raise MediaError("its index is compressed.")
    if listed_tags(data) > _TAGS:
        raise MediaError(f"it has more than {_TAGS} tags.")
    if listed_samples(data) > most:
        raise MediaError(f"its index lists more than {most} packets.")
    source = _source(data, policy, policy.max_pixels)
    packets = 0
    with opened(source) as container:
        streams = {stream.index: _stream(stream) for stream in container.streams.video}
        for packet in container.demux(*container.streams.video, *container.streams.audio):
            if not packet.size:
                continue
            packets += 1
            stream = streams.get(packet.stream_index)
            if stream is not None:
                stream.packets += 1
            if packets > most or (stream is not None and stream.packets > policy.max_frames):
                break
    if any(max(s.packets, s.listed) > policy.max_frames for s in streams.values()):
        raise MediaError(f"it has more than the {policy.max_frames} frames that are allowed.")
    if packets > most:
        raise MediaError(f"it has more than {most} packets.")
    return read_tracks(source), streams


def _stream(stream: Any) -> _Stream:
    shape = float(stream.sample_aspect_ratio or 1)
    stretch = min(max(shape, 1 / shape), _MOST_STRETCH)
    if stream.codec_context is None:
        raise MediaError("nothing decodes the codec of its pictures.")
    codec = stream.codec_context.codec.canonical_name
    return _Stream(codec, int(stream.width), int(stream.height), stretch, int(stream.frames))


def _source(data: bytes, policy: MediaPolicy, pixels: int) -> Source:
    options = {
        "format_whitelist": CONTAINERS,
        "protocol_whitelist": "none",
        # FFmpeg decodes a few frames of some formats when it opens a file.
        "max_pixels": str(2 * policy.max_pixels + _EDGE**2),
    }
    check = _SoundLimit(policy).check
    return Source(data, limits=Limits(options, PICTURES, pixels, policy.max_seconds, check))


class _SoundLimit:
    """The seconds of a sound so far. A header says anything; each frame is counted as decoded."""

    def __init__(self, policy: MediaPolicy) -> None:
        self.policy = policy
        self.seconds = Fraction()

    def check(self, frame: Any) -> None:
        """Refuse a frame that, resampled, would be more than is allowed."""
        rate = frame.sample_rate
        if not SLOWEST <= rate <= FASTEST:
            raise ConfigError(f"{rate} samples a second are not between {SLOWEST} and {FASTEST}.")
        self.seconds += Fraction(frame.samples, rate)
        if self.seconds > self.policy.max_seconds + _PADDING:
            raise ConfigError(f"it lasts longer than {self.policy.max_seconds:g} s.")


def _taken_bytes(seconds: float, pixels: int, sampling: Sampling, policy: MediaPolicy) -> int:
    """Bytes of the frames that are taken of so many seconds, one of which may be shown often."""
    taken = len(spread(count_samples(seconds, sampling.fps), sampling.max_frames))
    size = taken * pixels * 3
    _check_bytes(size, "bytes of the frames taken of it", policy)
    return size


def _sound_bytes(seconds: float) -> int:
    return math.ceil(seconds * SAMPLE_RATE) * 4


def _check_pixels(width: int, height: int, policy: MediaPolicy) -> None:
    if width * height > policy.max_pixels:
        raise MediaError(
            f"{width} x {height} pixels are more than the {policy.max_pixels} that are allowed."
        )


def _check_all_pixels(pixels: int, policy: MediaPolicy) -> None:
    if pixels > policy.max_video_pixels:
        raise MediaError(
            f"{pixels} pixels of all its frames are more than the {policy.max_video_pixels} that "
            "are allowed."
        )


def _check_bytes(size: int, what: str, policy: MediaPolicy) -> None:
    if size > policy.max_decoded_bytes:
        raise MediaError(
            f"{size} {what} are more than the {policy.max_decoded_bytes} that are allowed, or that "
            "other media of the request left."
        )


def _check_seconds(seconds: float, policy: MediaPolicy) -> None:
    if seconds > policy.max_seconds:
        raise MediaError(f"it lasts longer than the {policy.max_seconds:g} s that are allowed.")


def _check_installed() -> None:
    try:
        import av  # noqa: F401
    except ImportError as error:
        # Clients read this: it must not name a path of the server.
        raise UnsupportedError(
            "Reading media needs PyAV: the server lacks the extra 'media' of fastav-plugin."
        ) from error
