"""What a container holds and when: its tracks on one timeline, found without decoding it."""

import itertools
import re
from array import array
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.cropping import Crop, crop_of
from fastav_plugin.media.files import AnySource, Source, logger, opened, pyav
from fastav_plugin.media.packets import PacketReader
from fastav_plugin.media.timeline import Seconds, steady_rate

#: Seconds by which sound may begin before the pictures and not be their beginning: codecs' delay.
_DELAY = 0.1
#: Containers that state how long a track lasts, for a last picture that stands still.
_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
_STATES_LENGTH = (_MP4, "matroska,webm")
#: Containers that find a time in their sound exactly.
_SOUND_SEEKABLE = (*_STATES_LENGTH, "wav", "flac")
#: Its presentation times are made up; decoding times of packets, sorted, are those of its pictures.
_BY_DECODING_TIME = ("avi",)
_DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
#: Of a clip whose pictures have no steady rate: frames per second of its even view.
EVEN_RATE = 25.0


@dataclass(frozen=True)
class PictureTrack:
    """Pictures of a file.

    Attributes:
        stream: index of its stream.
        starts: when each picture is shown first, seconds, ascending.
        keys: of each picture: the decoding time of its packet, seconds in the container's clock,
            where decoding can begin with it; else NaN.
        end: when the last picture ends.
        by_stamp: whether decoded pictures say their time; else they come in the order of `starts`.
        seekable: whether the container can be trusted to find a time.
        crop: what the container leaves out of each picture; None for nothing.
    """

    stream: int
    starts: Seconds
    keys: Seconds
    end: float
    by_stamp: bool
    seekable: bool
    crop: Crop | None = None

    @property
    def rate(self) -> float:
        """Pictures per second, or those of an even view where they follow irregularly."""
        return steady_rate(self.starts, self.end) or EVEN_RATE


@dataclass(frozen=True)
class SoundTrack:
    """Sound of a file.

    Attributes:
        stream: index of its stream.
        start, end: in seconds.
        seekable: whether the container can be trusted to find a time.
    """

    stream: int
    start: float
    end: float
    seekable: bool


@dataclass(frozen=True)
class Tracks:
    """The tracks that a player would choose, on one timeline.

    Time 0 is where the file begins: with its pictures, or with a sound that begins earlier.

    Attributes:
        pictures, sound: None where there are none.
        origin: time 0 in the container's clock, seconds.
        unknown: "video" and "audio" where a track has a codec that nothing decodes.
    """

    pictures: PictureTrack | None
    sound: SoundTrack | None
    origin: float
    unknown: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float:
        """Length: to the end of pictures and sound, whichever is later."""
        return max(track.end for track in (self.pictures, self.sound) if track is not None)


@dataclass
class _Stamps:
    """What packets of one stream say, in seconds of the container's clock."""

    # A film of two hours has half a million packets.
    times: "array[float]" = field(default_factory=lambda: array("d"))
    decoding: "array[float]" = field(default_factory=lambda: array("d"))
    durations: "array[float]" = field(default_factory=lambda: array("d"))
    keys: "array[int]" = field(default_factory=lambda: array("b"))

    def add(self, packet: Any, by_stamp: bool) -> None:
        base = float(packet.time_base)
        time = packet.pts if by_stamp and packet.pts is not None else packet.dts
        self.times.append(time * base)
        self.decoding.append(packet.dts * base if packet.dts is not None else time * base)
        self.durations.append((packet.duration or 0) * base)
        self.keys.append(bool(packet.is_keyframe))


def read_tracks(source: AnySource) -> Tracks:
    """Find what a file holds and when, from its packets.

    Raises:
        ConfigError: it cannot be read, is cut off, or holds neither pictures nor sound.
    """
    source = Source.of(source)
    with opened(source) as container:
        whole = source.check_whole()
        covers = pyav().stream.Disposition.attached_pic
        videos = [s for s in container.streams.video if not s.disposition & covers]
        audios = list(container.streams.audio)
        unknown = {s.type for s in (*videos, *audios) if s.codec_context is None}
        videos, audios = (_decodable(source, streams) for streams in (videos, audios))
        if not videos and not audios:
            if unknown:
                raise source.fault("nothing decodes the codecs of its tracks")
            if container.streams.video:
                raise source.fault("it holds a cover picture and nothing else")
            raise ConfigError(f"{source.name} holds neither pictures nor sound.")
        reader = PacketReader(container, [*videos, *audios])
        by_stamp = container.format.name not in _BY_DECODING_TIME
        stamps = {stream.index: _Stamps() for stream in reader.streams}
        untimed = set()
        with _end_of_damaged(source):
            for packet in reader:
                if packet.is_discard and packet.stream.type == "video":
                    continue
                stamps[packet.stream_index].add(packet, by_stamp)
                if packet.pts is None:
                    untimed.add(packet.stream_index)
        video = _chosen(source, videos, stamps, "picture")
        audio = _chosen(source, audios, stamps, "sound")
        if video is None and audio is None:
            raise source.fault("its tracks are empty")
        sure = not reader.repaired
        sound_start = None if audio is None else _first_sound(source, audio)
        starts = []
        if video is not None:
            starts.append(min(stamps[video.index].times))
        if sound_start is not None and (not starts or sound_start < starts[0] - _DELAY):
            starts.append(sound_start)
        if not starts:
            raise source.fault("no sound can be decoded")
        origin = min(starts)
        pictures = sound = None
        if video is not None:
            found = stamps[video.index]
            timed = by_stamp and video.index not in untimed
            pictures = _pictures(video, found, origin, timed, sure)
            if whole and container.format.name in _STATES_LENGTH:
                stated = _stated_end(container, video, pictures.starts[0] + origin) - origin
                pictures = replace(pictures, end=max(pictures.end, stated))
            pictures = replace(pictures, crop=crop_of(source, container, video))
        if audio is not None and sound_start is not None:
            found = stamps[audio.index]
            end = found.times[-1] + found.durations[-1] - origin
            if container.format.name == "flac" and audio.duration is not None:
                _check_end(source, end + origin, float(audio.duration * audio.time_base))
            start, name = sound_start - origin, container.format.name
            # The byte rate that WAV finds a time by is a round number for what is compressed.
            plain = name != "wav" or audio.codec_context.name.startswith("pcm_")
            exact = name in _SOUND_SEEKABLE and plain
            sound = SoundTrack(audio.index, start, max(end, start), sure and exact)
    return Tracks(pictures, sound, origin, frozenset(unknown))


def _end_of_damaged(source: Source) -> AbstractContextManager[None]:
    """Ends the reading of packets where a file that may be damaged breaks off."""
    return suppress(pyav().FFmpegError) if source.allow_damaged else nullcontext()


def _decodable(source: Source, streams: list[Any]) -> list[Any]:
    """Tracks without those of a codec that nothing decodes, which are named."""
    for stream in streams:
        if stream.codec_context is None:
            logger.warning("%s: nothing decodes its track %d.", source.name, stream.index)
    return [stream for stream in streams if stream.codec_context is not None]


def _chosen(source: Source, streams: list[Any], stamps: dict[int, _Stamps], kind: str) -> Any:
    """The default track, else the first that holds anything; None without one."""
    default = pyav().stream.Disposition.default
    ranked = sorted(streams, key=lambda stream: not stream.disposition & default)
    full = [stream for stream in ranked if stamps[stream.index].times]
    if ranked and full[:1] != ranked[:1]:
        instead = "track is used in its place" if full else "is in the file"
        logger.warning(
            "%s: its %s track %d is empty; %s %s.",
            *(source.name, kind, ranked[0].index),
            *("the next" if full else f"no other {kind}", instead),
        )
    return full[0] if full else None


def _check_end(source: Source, end: float, stated: float) -> None:
    """Refuse a sound of which the end is missing; a header may be off by a packet."""
    if end < stated - 0.5 and not source.allow_damaged:
        raise source.damage(f"it is cut off: it has {end:.1f} of {stated:.1f} s")


def _first_sound(source: Source, stream: Any) -> float | None:
    """When the first sample is heard, in the container's clock: codecs skip some at the start."""
    av = pyav()
    with opened(source) as container:
        audio = container.streams[stream.index]
        for packet in itertools.islice(PacketReader(container, [audio]), 64):
            try:
                for frame in packet.decode():
                    stamp = packet.pts if frame.pts is None else frame.pts
                    return float((stamp or 0) * audio.time_base)
            except av.FFmpegError:
                continue
    return None


def _pictures(stream: Any, stamps: _Stamps, origin: float, timed: bool, sure: bool) -> PictureTrack:
    times = np.asarray(stamps.times)
    order = np.argsort(times, kind="stable")
    keys = np.where(stamps.keys, stamps.decoding, np.nan)[order]
    last = int(order[-1])
    end = times[last] + stamps.durations[last]
    if not stamps.durations[last]:
        end = times[last] + 1 / float(stream.guessed_rate or stream.average_rate or EVEN_RATE)
    starts = times[order] - origin
    unique = len(np.unique(times)) == len(times)
    return PictureTrack(
        stream.index, starts, keys, float(end - origin), timed, sure and timed and unique
    )


def _stated_end(container: Any, stream: Any, first: float) -> float:
    """When the container says that a track ends, in its clock; 0 where it does not say.

    `first` is when its first picture is shown.
    """
    found = _DURATION.match(stream.metadata.get("DURATION", ""))
    if found is not None:  # Matroska counts from zero to the end of the track
        hours, minutes, seconds = (float(part) for part in found.groups())
        return 3600 * hours + 60 * minutes + seconds
    if container.format.name == _MP4 and stream.duration is not None:
        return float(first + stream.duration * stream.time_base)
    if len(container.streams) == 1 and container.duration is not None:
        return float(((container.start_time or 0) + container.duration) / 1e6)
    return 0.0
