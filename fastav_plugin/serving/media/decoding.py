"""Untrusted media into pictures, frames and samples, measured before they are decoded."""

import io
import itertools
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fastav_plugin.errors import UnsupportedError
from fastav_plugin.media.clips import Video, read_video
from fastav_plugin.media.files import Limits, Source
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform, read_sound
from fastav_plugin.media.video import FRAMES_PER_SECOND
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy

#: Samples per second of a sound that is read; of few, resampling makes very many.
SLOWEST, FASTEST = 1_000, 768_000
PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
#: Containers that hold media and name no other file; playlists would make the server fetch them.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,wav,mp3,flac,ogg,aac"
#: Codecs whose frames cost what their pixels say; one of JPEGs may pass over each for long.
VIDEO_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video")
#: Scans of a JPEG; encoders make about ten.
_PASSES = 30
#: A marker of a JPEG that says what follows, in or between its scans.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_END, _SCAN = 0xD9, 0xDA
#: What FFmpeg would unpack at once, of any length: an index of QuickTime that was compressed.
_PACKED = re.compile(rb"cmov.{4}dcom", re.DOTALL)
#: Pixels by which a decoder may round an edge up.
_EDGE = 128


@dataclass(frozen=True)
class Sound:
    """One channel.

    Attributes:
        waveform: float32 [n] in [-1, 1].
        sample_rate: samples per second.
    """

    waveform: Waveform
    sample_rate: int = SAMPLE_RATE


def decode(kind: str, data: bytes, policy: MediaPolicy, *, max_frames: int | None = None) -> Any:
    """Decode an untrusted medium.

    Args:
        kind: "image", "video" or "audio".
        data: the medium as it is encoded.
        policy: how large it may be.
        max_frames: take at most this many frames, spread evenly over the video.

    Returns:
        PIL.Image.Image in RGB, Video or Sound.

    Raises:
        MediaError: it is too large, or damaged.
        UnsupportedError: what reads media is not installed.
    """
    if kind == "image":
        return _picture(data, policy)
    if kind == "video":
        return _video(data, policy, max_frames)
    if kind == "audio":
        return Sound(_sound(data, policy))
    raise MediaError(f"'{kind}' is none of image, video and audio.")


def _picture(data: bytes, policy: MediaPolicy) -> Any:
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=PICTURES) as picture:
            _check_pixels(*picture.size, policy)
            _check_bytes(picture.width * picture.height * 3, "bytes of the picture", policy)
            # Each pass over a progressive picture takes as long as all of it, and few bytes.
            if picture.format in ("JPEG", "MPO") and _passes(data) > _PASSES:
                raise MediaError(f"it has more than {_PASSES} passes.")
            # As transformers loads pictures: upright, without transparency.
            return ImageOps.exif_transpose(picture).convert("RGB")
    except MediaError:
        raise
    except Exception as error:  # a decoder of untrusted bytes may raise anything
        raise MediaError(f"it is no picture that can be read ({type(error).__name__}).") from error


def _passes(data: bytes) -> int:
    """Scans of the first picture in a JPEG file; what phones append to it is not read."""
    passes, place = 0, 2
    while (found := _MARKER.search(data, place)) is not None and data[found.end() - 1] != _END:
        passes += data[found.end() - 1] == _SCAN
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        place = found.end() + max(2, length)
    return passes


def _video(data: bytes, policy: MediaPolicy, max_frames: int | None) -> Video:
    with _opened(data) as container:
        room = _measure(container, policy)
    with _refused():
        return read_video(_source(data, policy, room), FRAMES_PER_SECOND, max_frames)


def _sound(data: bytes, policy: MediaPolicy) -> Waveform:
    with _opened(data) as container:
        if not container.streams.audio:
            raise MediaError("it holds no sound.")
        _check_seconds((container.duration or 0) / 1e6, policy)
    with _refused():
        (waveform,) = read_sound(_source(data, policy, policy.max_pixels))
    if not len(waveform):
        raise MediaError("no sound can be decoded from it.")
    return waveform


def _source(data: bytes, policy: MediaPolicy, pixels: int) -> Source:
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    check = _SoundLimit(policy).check
    return Source(data, limits=Limits(options, PICTURES, pixels, policy.max_seconds, check))


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except MediaError:
        raise
    except Exception as error:  # a decoder of untrusted bytes may raise anything
        raise MediaError(f"it cannot be decoded ({error}).") from error


class _SoundLimit:
    """The seconds of a sound so far. A header says anything; each frame is counted as decoded."""

    def __init__(self, policy: MediaPolicy) -> None:
        self.policy = policy
        self.seconds = Fraction()

    def check(self, frame: Any) -> None:
        """Refuse a frame that, resampled, would be more than is allowed."""
        rate = frame.sample_rate
        if not SLOWEST <= rate <= FASTEST:
            raise MediaError(f"{rate} samples a second are not between {SLOWEST} and {FASTEST}.")
        self.seconds += Fraction(frame.samples, rate)
        _check_seconds(float(self.seconds), self.policy)


def _measure(container: Any, policy: MediaPolicy) -> int:
    """Check a video by its packets, without decoding one.

    Returns:
        the pixels that a decoder may make room for at once.
    """
    if not container.streams.video:
        raise MediaError("it holds no pictures.")
    stream = container.streams.video[0]
    width, height = int(stream.width), int(stream.height)
    _check_pixels(width, height, policy)
    codec = stream.codec_context.codec.canonical_name
    if codec not in VIDEO_CODECS:
        raise MediaError(f"its codec {codec!r} is none of {', '.join(VIDEO_CODECS)}.")
    _check_seconds((container.duration or 0) / 1e6, policy)
    packets = (packet for packet in container.demux(stream) if packet.size)
    some = list(itertools.islice(packets, policy.max_frames + 1))
    if max(len(some), stream.frames) > policy.max_frames:
        raise MediaError(f"it has more than the {policy.max_frames} frames that are allowed.")
    if len(some) < stream.frames or any(packet.is_corrupt for packet in some):
        raise MediaError("it is damaged: frames that its header lists are missing.")
    times = [float(packet.pts * packet.time_base) for packet in some if packet.pts is not None]
    seconds = max(times, default=0.0) - min(times, default=0.0)
    _check_seconds(seconds, policy)
    taken = min(len(some), math.ceil(seconds * FRAMES_PER_SECOND) + 2)
    pixels = len(some) * width * height
    if pixels > policy.max_video_pixels:
        raise MediaError(
            f"{pixels} pixels of all its frames are more than the {policy.max_video_pixels} that "
            "are allowed."
        )
    _check_bytes(taken * width * height * 3, "bytes of the frames taken of it", policy)
    return (width + _EDGE) * (height + _EDGE)


def _check_pixels(width: int, height: int, policy: MediaPolicy) -> None:
    if width * height > policy.max_pixels:
        raise MediaError(
            f"{width} x {height} pixels are more than the {policy.max_pixels} that are allowed."
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


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    try:
        import av
    except ImportError as error:
        # Clients read this: it must not name a path of the server.
        raise UnsupportedError(
            "Reading media needs PyAV: the server lacks the extra 'media' of fastav-plugin."
        ) from error
    if _PACKED.search(data):
        raise MediaError("its index is compressed.")
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    try:
        with av.open(io.BytesIO(data), options=options) as container:
            yield container
    except MediaError:
        raise
    except Exception as error:  # a decoder of untrusted bytes may raise anything
        raise MediaError(f"it cannot be decoded ({type(error).__name__}).") from error
