"""The streams of an untrusted container, their packets counted before any of them is decoded."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.files import Limits, Source, opened
from fastav_plugin.media.tracks import Tracks, read_tracks
from fastav_plugin.serving.media.headers import PACKED, listed_samples, listed_tags
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy, variable

#: Samples per second of a sound that is read; of few, resampling makes very many.
SLOWEST, FASTEST = 1_000, 768_000
#: Pillow's formats whose header says how large a picture becomes.
PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
#: Containers that hold media and name no other file; playlists would make the server fetch them.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,wav,mp3,flac,ogg,aac"
#: Packets of a second of all sounds in a file; the shortest ones that encoders make last 2.5 ms.
_PACKETS = 1_000
#: Tags of a file; FFmpeg compares each with all before it.
_TAGS = 4096
#: Seconds by which codecs may lengthen a sound to fill their last packet.
_PADDING = 0.5
#: Pixels by which a decoder may round an edge up.
EDGE = 128
#: Pixels of other shapes than a player believes are square.
_MOST_STRETCH = 16


@dataclass
class Stream:
    """What the header says of a video stream, and its packets."""

    codec: str
    width: int
    height: int
    stretch: float  # pixels as shown for each one as decoded, at most
    listed: int
    packets: int = 0


def read_streams(data: bytes, policy: MediaPolicy) -> tuple[Tracks, dict[int, Stream]]:
    """The tracks of a container, once its packets were counted; none is decoded for it.

    Raises:
        MediaError: it has more of anything than is allowed, or nothing decodes it.
    """
    most = policy.max_frames + int(_PACKETS * policy.max_seconds)
    if PACKED.search(data):
        raise MediaError("its index is compressed.")
    if listed_tags(data) > _TAGS:
        raise MediaError(f"it has more than {_TAGS} tags.", reason="limit")
    if listed_samples(data) > most:
        raise MediaError(f"its index lists more than {most} packets.", reason="limit")
    source = untrusted_source(data, policy, policy.max_pixels)
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
        raise MediaError(
            f"it has more than the {policy.max_frames} frames that are allowed "
            f"({variable('max_frames')}).",
            reason="limit",
        )
    if packets > most:
        raise MediaError(f"it has more than {most} packets.", reason="limit")
    return read_tracks(source), streams


def _stream(stream: Any) -> Stream:
    shape = float(stream.sample_aspect_ratio or 1)
    stretch = min(max(shape, 1 / shape), _MOST_STRETCH)
    if stream.codec_context is None:
        raise MediaError("nothing decodes the codec of its pictures.")
    codec = stream.codec_context.codec.canonical_name
    return Stream(codec, int(stream.width), int(stream.height), stretch, int(stream.frames))


def untrusted_source(data: bytes, policy: MediaPolicy, pixels: int) -> Source:
    """Bytes for the reader, with the limits of a policy and so many pixels for each picture."""
    options = {
        "format_whitelist": CONTAINERS,
        "protocol_whitelist": "none",
        # FFmpeg decodes a few frames of some formats when it opens a file.
        "max_pixels": str(2 * policy.max_pixels + EDGE**2),
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
