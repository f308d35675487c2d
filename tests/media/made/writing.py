"""Clips and sounds into files, each packet at the time that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.media.made.drawing import Picture, Samples

#: Options by which an encoder is quick, uses one core, or starts at all.
QUICK = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "vorbis": {"strict": "-2"},
    "wmav2": {"b": "128000"},
}
#: Time base of a track whose frames have times of their own.
FINE = Fraction(1, 1000)

#: New time in seconds of the packet at a time; None leaves it out.
Moved = Callable[[float], float | None]


@dataclass(frozen=True)
class Track:
    """Pictures of a clip.

    Attributes:
        pictures: uint8 [H, W, 3] each, with the second from which it is shown.
        last: seconds that the last one is shown.
        rate: frames per second that the file states.
        fine: whether times are kept to the millisecond rather than to the frame.
        colorspace, full_range: how colours are coded, as FFmpeg numbers it.
        tagged: whether the file says how.
        moved: changes times of packets.
        spoilt: changes the bytes of the packets at some seconds.
        setup: anything else, called with the new stream.
    """

    pictures: Sequence[tuple[float, Picture]]
    last: float = 0.1
    codec: str = "libx264"
    rate: Fraction | int = 10
    fine: bool = False
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)
    colorspace: int | None = None
    full_range: bool | None = None
    tagged: bool = True
    moved: Moved | None = None
    spoilt: Callable[[float, bytes], bytes] | None = None
    setup: Callable[[Any], None] | None = None

    def add(self, container: Any) -> Any:
        """The new stream of a container."""
        stream = container.add_stream(self.codec, rate=self.rate)
        height, width = self.pictures[0][1].shape[:2] if self.pictures else (64, 96)
        stream.width, stream.height, stream.pix_fmt = width, height, self.pix_fmt
        stream.codec_context.time_base = self._base
        stream.codec_context.thread_count = 1
        stream.options = {**QUICK.get(self.codec, {}), **self.options}
        if self.colorspace is not None and self.tagged:
            stream.codec_context.colorspace = self.colorspace
        if self.full_range is not None and self.tagged:
            stream.codec_context.color_range = 2 if self.full_range else 1
        if self.setup is not None:
            self.setup(stream)
        return stream

    @property
    def _base(self) -> Fraction:
        return FINE if self.fine else 1 / Fraction(self.rate)

    def packets(self, stream: Any) -> Iterator[Any]:
        """Encode all pictures."""
        if not self.pictures:
            return
        starts = [round(start / self._base) for start, _ in self.pictures]
        ends = [*starts[1:], starts[-1] + round(self.last / self._base)]
        durations = {start: end - start for start, end in zip(starts, ends, strict=True)}
        range_ = None if self.full_range is None else 2 if self.full_range else 1
        for start, (_, picture) in zip(starts, self.pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(
                format=self.pix_fmt, dst_colorspace=self.colorspace, dst_color_range=range_
            )
            frame.pts, frame.time_base = start, self._base
            yield from self._finished(stream.encode(frame), durations)
        yield from self._finished(stream.encode(None), durations)

    def _finished(self, packets: Sequence[Any], durations: dict[int, int]) -> Iterator[Any]:
        for packet in packets:
            packet.duration = durations.get(packet.pts, 0)
            if self.spoilt is not None:
                packet = _with_bytes(
                    packet, self.spoilt(float(packet.pts * self._base), bytes(packet))
                )
            yield from _moved(packet, self.moved)


@dataclass(frozen=True)
class Sound:
    """Sound of a clip.

    Attributes:
        samples: float32 [channels, n].
        rate: samples per second.
        start: second at which they begin.
        moved, spoilt, setup: as of a Track.
        chunk: samples that are encoded at once, for codecs without frames of their own.
    """

    samples: Samples
    rate: int = 48_000
    codec: str = "aac"
    start: float = 0.0
    options: Mapping[str, str] = field(default_factory=dict)
    moved: Moved | None = None
    spoilt: Callable[[float, bytes], bytes] | None = None
    setup: Callable[[Any], None] | None = None
    chunk: int = 1024
    layout: str = ""

    def add(self, container: Any) -> Any:
        """The new stream of a container."""
        layout = self.layout or ("mono" if len(self.samples) == 1 else "stereo")
        stream = container.add_stream(self.codec, rate=self.rate, layout=layout)
        stream.options = {**QUICK.get(self.codec, {}), **self.options}
        stream.codec_context.thread_count = 1
        if self.setup is not None:
            self.setup(stream)
        return stream

    def packets(self, stream: Any) -> Iterator[Any]:
        """Encode all samples."""
        if not self.samples.size:
            return
        layout = stream.codec_context.layout.name
        context = stream.codec_context
        resampler = av.AudioResampler(
            format=context.format, layout=layout, rate=self.rate, frame_size=context.frame_size
        )
        first = round(self.start * self.rate)
        for place in range(0, self.samples.shape[1], self.chunk):
            piece = np.ascontiguousarray(self.samples[:, place : place + self.chunk])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = self.rate, first + place
            frame.time_base = Fraction(1, self.rate)
            for ready in resampler.resample(frame):
                yield from self._finished(stream.encode(ready))
        for ready in resampler.resample(None):
            yield from self._finished(stream.encode(ready))
        yield from self._finished(stream.encode(None))

    def _finished(self, packets: Sequence[Any]) -> Iterator[Any]:
        for packet in packets:
            if self.spoilt is not None:
                time = float((packet.pts or 0) * packet.time_base)
                packet = _with_bytes(packet, self.spoilt(time, bytes(packet)))
            yield from _moved(packet, self.moved)


def _with_bytes(packet: Any, data: bytes) -> Any:
    if data == bytes(packet):
        return packet
    other = av.Packet(data)
    for name in ("pts", "dts", "duration", "time_base", "stream", "is_keyframe"):
        setattr(other, name, getattr(packet, name))
    return other


def _moved(packet: Any, moved: Moved | None) -> Iterator[Any]:
    if moved is not None:
        time = float(packet.pts * packet.time_base)
        new = moved(time)
        if new is None:
            return
        shift = round((new - time) / packet.time_base)
        packet.pts += shift
        packet.dts += shift
    yield packet


def write(
    path: Path,
    *tracks: Track | Sound,
    format: str | None = None,
    options: Mapping[str, str] | None = None,
    cover: bytes | None = None,
) -> None:
    """Write tracks into a file, in this order; Matroska takes the JPEG of a cover besides."""
    with av.open(str(path), "w", format=format, options=dict(options or {})) as container:
        if cover is not None:
            container.add_attachment("cover.jpg", "image/jpeg", cover)
        streams = [track.add(container) for track in tracks]
        packets: list[tuple[float, int, Any]] = []
        for number, (track, stream) in enumerate(zip(tracks, streams, strict=True)):
            container.start_encoding()
            for packet in track.packets(stream):
                packet.stream = stream
                packets.append((float(packet.dts * packet.time_base), number, packet))
        packets.sort(key=lambda item: item[:2])
        for _, _, packet in packets:
            container.mux(packet)
