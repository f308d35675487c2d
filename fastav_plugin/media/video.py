"""The pictures of a clip at given times; no more is decoded and held than is asked for.

Pictures are found by seeking to the key frame before them. In containers that cannot be trusted to
find a time the file is decoded from its beginning.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastav_plugin.media.files import AnySource, Source, opened, pyav
from fastav_plugin.media.packets import PacketReader
from fastav_plugin.media.presentation import Alpha, Frames, Presenter, SideAlpha
from fastav_plugin.media.timeline import ROUNDING, shown_at
from fastav_plugin.media.tracks import PictureTrack, Tracks

#: Frames taken of each second where nobody says otherwise.
FRAMES_PER_SECOND = 2

#: A frame of PyAV, and the alpha that it does not hold.
Picture = tuple[Any, Alpha | None]

#: Frames up to which a stream is decoded on rather than searched.
_NEAR = 8
#: Decoders that may leave out a frame and take the next; that of AV1 decides once for all.
_SKIPPING = ("h264", "hevc", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video")
#: Seconds of packets after which a key frame counts as lost.
_PATIENCE = 5.0


class _Lost(Exception):
    """Decoding cannot begin where the index says."""


@dataclass
class _Count:
    """Packets that were decoded, and those that could not be."""

    sent: int = 0
    failed: int = 0


def show(source: AnySource, tracks: Tracks, times: Sequence[float]) -> Iterator[Frames]:
    """The pictures that a player shows at some times, one at a time: uint8 [H, W, 3], RGB.

    Args:
        source: the file.
        tracks: its tracks, with pictures.
        times: seconds, ascending; each gets a picture, the same one where none comes between.

    Raises:
        ConfigError: none of them can be decoded, or most of what was tried cannot.
    """
    source = Source.of(source)
    track = tracks.pictures
    assert track is not None
    wanted = shown_at(track.starts, times)
    presenter = None
    found = -1
    decoded = _frames_at(source, tracks, track, sorted(set(wanted)))
    picture = np.zeros((0, 0, 3), np.uint8)
    for number in wanted:
        if number != found:
            found, (frame, alpha), stretch = next(decoded)
            presenter = presenter or Presenter(source, stretch, track.crop)
            picture = presenter(frame, alpha)
        yield picture
    next(decoded, None)  # how many packets failed is known at the end


def _frames_at(
    source: Source, tracks: Tracks, track: PictureTrack, wanted: Sequence[int]
) -> Iterator[tuple[int, Any, Any]]:
    """Each wanted frame: its number, itself with its alpha, and the shape of its pixels."""
    count = _Count()
    done = 0
    last: Any = None
    for sought in (True, False) if track.seekable else (False,):
        rest = wanted[done:]
        groups = _stretches(track, rest) if sought else [(None, rest)]
        with opened(source) as container, suppress(_Lost):
            decoder = _Decoder(source, container, tracks, track, count)
            for key, numbers in groups:
                for number, picture in decoder.pick(key, numbers):
                    last = picture if picture is not None else last
                    if last is None:
                        raise _Lost
                    done += 1
                    yield number, last, decoder.shape
        if done == len(wanted):
            break
    if done < len(wanted):
        raise source.fault("none of its pictures can be decoded")
    instead = "the picture before them is shown on"
    source.lacks(count.failed, count.sent, of="pictures", instead=instead)


def _stretches(track: PictureTrack, wanted: Sequence[int]) -> list[tuple[int | None, list[int]]]:
    """Wanted frames in groups, each with the key frame that decoding begins with."""
    keys = np.flatnonzero(~np.isnan(track.keys))
    groups: list[tuple[int | None, list[int]]] = []
    for number in wanted:
        place = int(np.searchsorted(keys, number, side="right")) - 1
        key = int(keys[place]) if place > 0 else None  # before the first: from the beginning
        if groups and (key is None or key - groups[-1][1][-1] <= _NEAR):
            groups[-1][1].append(number)
        else:
            groups.append((key, [number]))
    return groups


class _Decoder:
    """Decodes the pictures of an open container in the order in which they are shown."""

    def __init__(
        self, source: Source, container: Any, tracks: Tracks, track: PictureTrack, count: _Count
    ) -> None:
        self._source = source
        self._container = container
        self._track = track
        self._origin = tracks.origin
        self._count = count
        self._stream = container.streams[track.stream]
        self.shape = self._stream.sample_aspect_ratio
        others = () if tracks.sound is None else (container.streams[tracks.sound.stream],)
        # Jumps of one stream move the other: both are read where that was so.
        streams = [self._stream, *(others if not track.seekable else ())]
        self._streams = streams
        self._alpha: SideAlpha | None = None
        context = self._stream.codec_context
        self._skips = context.name in _SKIPPING
        context.thread_type = "AUTO"
        context.thread_count = min(4, os.cpu_count() or 1)  # each thread holds frames
        if source.limits is not None:
            context.options = {**context.options, "max_pixels": str(source.limits.pixels)}

    def pick(self, key: int | None, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Decode from a key frame, or the beginning, and pick frames, each with its alpha.

        One that is missing is replaced by the one before it, which is shown on; None where nothing
        was decoded so far.

        Raises:
            _Lost: the key frame is not where the index says.
        """
        starts = self._track.starts
        queue = list(wanted)
        held: Any = None
        for time, picture in self._frames(key, lambda: float(starts[queue[0]])):
            if held is None and key is None:
                held = picture  # shown from the beginning where nothing before it can be decoded
            while queue and time > starts[queue[0]] + ROUNDING:
                yield queue.pop(0), held
            held = picture
            if queue and time >= starts[queue[0]] - ROUNDING:
                yield queue.pop(0), held
            if not queue:
                return
        while queue:
            yield queue.pop(0), held

    def _frames(self, key: int | None, target: Any) -> Iterator[tuple[float, Picture]]:
        """Seconds, and frame with its alpha, from a key frame or the beginning on.

        Args:
            key: number of the key frame.
            target: gives the time of the picture that is wanted next; others may be left out.

        Raises:
            _Lost: the key frame is none, or its alpha is none.
        """
        if SideAlpha.is_in(self._stream):
            self._alpha = SideAlpha(self._source, self._stream)
        reader = PacketReader(self._container, self._streams)
        packets = self._from_key(reader, key) if key is not None else iter(reader)
        number = 0
        for packet in packets:
            if packet.stream_index != self._stream.index:
                continue
            self._skip_before(packet, target)
            for picture in self._send(packet):
                yield self._time(picture[0], number), picture
                number += 1
            if key is not None and self._alpha is not None and not self._alpha.begun:
                raise _Lost
        for picture in self._send(None):
            yield self._time(picture[0], number), picture
            number += 1

    def _from_key(self, reader: PacketReader, key: int) -> Iterator[Any]:
        base = self._stream.time_base
        stamp = float(self._track.keys[key])
        try:
            self._container.seek(math.floor(stamp / base), stream=self._stream, backward=True)
        except pyav().FFmpegError as error:  # some containers find no time at all
            raise _Lost from error
        waiting = True
        for packet in reader:
            time = float((packet.pts if packet.dts is None else packet.dts) * base)
            if waiting and packet.is_keyframe and abs(time - stamp) < base / 2:
                waiting = False
            if waiting and time > stamp + _PATIENCE:
                raise _Lost
            if not waiting:
                yield packet
        if waiting:
            raise _Lost

    def _skip_before(self, packet: Any, target: Any) -> None:
        """Leave out frames before the wanted one that no other frame refers to."""
        if self._skips and self._track.by_stamp and packet.pts is not None:
            before = float(packet.pts * packet.time_base) - self._origin < target() - ROUNDING
            self._stream.codec_context.skip_frame = "NONREF" if before else "DEFAULT"

    def _send(self, packet: Any) -> list[Picture]:
        self._count.sent += packet is not None
        try:
            frames = self._stream.codec_context.decode(packet)
        except pyav().FFmpegError:
            self._count.failed += 1
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        self._count.failed += len(frames) - len(whole)
        frames = whole
        if self._alpha is None:
            return [(frame, None) for frame in frames]
        self._count.failed += packet is not None and not self._alpha.read(packet)
        return self._alpha.join(frames)

    def _time(self, frame: Any, number: int) -> float:
        if self._track.by_stamp and frame.pts is not None:
            return float(frame.pts * self._stream.time_base) - self._origin
        return float(self._track.starts[min(number, len(self._track.starts) - 1)])
