"""Encoded packets of a container in the order of the file, on one clock."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

#: FFmpeg's mark of formats whose time stamps may jump (AVFMT_TS_DISCONT), such as MPEG-TS.
_DISCONTINUOUS = 0x0200
#: Seconds: time stamps that go back by more, or ahead by more in those formats, are a jump.
_BACK, _AHEAD = 1.0, 10.0


@dataclass
class _Clock:
    """Of one stream, in seconds."""

    shift: float = 0.0  # added to its time stamps since the last jump
    last: float | None = None  # shifted time stamp of the last packet
    next: float = 0.0  # when it ends


class PacketReader:
    """Demuxes streams; time stamps that are missing are filled in, and those that jump go on.

    Where a jump shifts one stream, the same shift is taken for the others, so that sound and
    pictures stay together.

    Args:
        container: open, of PyAV.
        streams: those to read.

    Attributes:
        repaired: whether a time stamp so far was missing or jumped.
    """

    def __init__(self, container: Any, streams: Sequence[Any]) -> None:
        self.container = container
        self.streams = list(streams)
        self.repaired = False
        self._jumps_ahead = bool(container.format.flags & _DISCONTINUOUS)
        self._clocks = {stream.index: _Clock() for stream in streams}
        self._shift = 0.0

    def __iter__(self) -> Iterator[Any]:
        """Packets with content; each has a `dts`, and a `pts` where the file has one."""
        if not self.streams:
            return
        for packet in self.container.demux(self.streams):
            # PyAV ends with an empty packet per stream; AVI has some where a picture stands still.
            if packet.size:
                # Those that an edit list leaves out go back in time by design.
                if not packet.is_discard:
                    self._settle(packet)
                yield packet

    def _settle(self, packet: Any) -> None:
        clock = self._clocks[packet.stream_index]
        base = float(packet.time_base)
        if packet.dts is None and packet.pts is not None:
            # Matroska does not say when the first packets of a stream are decoded, which are not
            # in the order in which they are shown: nothing to compare others with.
            packet.pts += round(clock.shift / base)
            return
        if packet.dts is None:
            self.repaired = True
            packet.dts = round(clock.next / base)
            time = clock.next
        else:
            stamp = packet.dts
            time = stamp * base + clock.shift
            if self._jumped(clock, time):
                self.repaired = True
                time = self._follow(clock, stamp * base)
            if clock.shift:
                shift = round(clock.shift / base)
                packet.dts = stamp + shift
                packet.pts = None if packet.pts is None else packet.pts + shift
        clock.last = time if clock.last is None else max(clock.last, time)
        clock.next = time + (packet.duration or 0) * base

    def _jumped(self, clock: _Clock, time: float) -> bool:
        if clock.last is None:
            return False
        furthest = max(c.next for c in self._clocks.values() if c.last is not None)
        return time < clock.last - _BACK or (self._jumps_ahead and time > furthest + _AHEAD)

    def _follow(self, clock: _Clock, stamp: float) -> float:
        """Shift a clock so that a stamp follows what came before it; its time."""
        if not -_BACK < stamp + self._shift - clock.next < _AHEAD:
            self._shift = clock.next - stamp
        clock.shift = self._shift
        return stamp + clock.shift
