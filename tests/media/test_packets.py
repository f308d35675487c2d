"""Time stamps of packets: those that jump go on, those that are missing are filled in."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from fastav_plugin.media.packets import PacketReader

#: Marks of FFmpeg: formats whose time stamps may jump, and others.
BROADCAST, FILE = 0x0200, 0


class Packet(SimpleNamespace):
    """What the reader touches of a packet of PyAV, in ticks of a tenth of a second."""


def packet(stream: int, dts: int | None, pts: int | None = None, **more: Any) -> Packet:
    facts = {"size": 1, "duration": 1, "is_discard": False, "time_base": Fraction(1, 10)}
    stamp = dts if pts is None else pts
    return Packet(stream_index=stream, dts=dts, pts=stamp, **{**facts, **more})


def read(packets: list[Packet], flags: int) -> tuple[list[tuple[int, Any, Any]], bool]:
    container = SimpleNamespace(
        format=SimpleNamespace(flags=flags), demux=lambda streams: iter(packets)
    )
    streams = [SimpleNamespace(index=index) for index in (0, 1)]
    reader = PacketReader(container, streams)
    return [(p.stream_index, p.dts, p.pts) for p in reader], reader.repaired


@pytest.mark.parametrize("flags", [BROADCAST, FILE])
def test_stamps_in_order_stay(flags: int) -> None:
    packets = [packet(0, 0, 2), packet(1, 0), packet(0, 1, 1), packet(1, 1), packet(0, 90)]
    expected = [(p.stream_index, p.dts, p.pts) for p in packets]
    assert read(packets, flags) == (expected, False)


@pytest.mark.parametrize("flags", [BROADCAST, FILE])
def test_a_clock_that_starts_again_goes_on(flags: int) -> None:
    """Both streams are moved alike, the one that comes later and is a little behind as well."""
    first = [packet(i, t) for t in range(20) for i in (0, 1)]
    second = [packet(i, t - i) for t in range(1, 4) for i in (0, 1)]
    found, repaired = read([*first, *second], flags)
    assert repaired
    assert found[40:] == [
        *((0, 20, 20), (1, 19, 19), (0, 21, 21), (1, 20, 20), (0, 22, 22), (1, 21, 21))
    ]


def test_a_jump_ahead_is_one_in_broadcasts_alone() -> None:
    def packets() -> list[Packet]:
        return [packet(0, 0), packet(1, 0), packet(0, 5000), packet(1, 5001)]

    found, repaired = read(packets(), BROADCAST)
    assert (found[2:], repaired) == ([(0, 1, 1), (1, 2, 2)], True)
    found, repaired = read(packets(), FILE)
    assert (found[2:], repaired) == ([(0, 5000, 5000), (1, 5001, 5001)], False)


def test_silence_beside_pictures_is_no_jump() -> None:
    """Sound that pauses for 15 seconds while the pictures go on."""
    packets = [packet(1, 0), *(packet(0, t) for t in range(150)), packet(1, 150)]
    found, repaired = read(packets, BROADCAST)
    assert (found[-1], repaired) == ((1, 150, 150), False)


def test_missing_stamps_follow_each_other() -> None:
    packets = [packet(0, None, duration=2) for _ in range(3)]
    for one in packets:
        one.pts = None
    found, repaired = read(packets, FILE)
    assert (found, repaired) == ([(0, 0, None), (0, 2, None), (0, 4, None)], True)


def test_what_an_edit_list_leaves_out_is_no_jump() -> None:
    packets = [packet(0, 0), packet(0, 1), packet(0, -30, is_discard=True), packet(0, 2)]
    found, repaired = read(packets, FILE)
    assert (found, repaired) == ([(0, 0, 0), (0, 1, 1), (0, -30, -30), (0, 2, 2)], False)


def test_packets_without_content_are_left_out() -> None:
    packets = [packet(0, 0), packet(0, 1, size=0), packet(0, 2), packet(0, None, size=0)]
    assert [dts for _, dts, _ in read(packets, FILE)[0]] == [0, 2]


def test_packets_that_say_only_when_they_are_shown_are_not_compared() -> None:
    """Matroska with pictures that refer to later ones, one a second: 0, 30, 10, then in order."""
    packets = [packet(0, None, 0), packet(0, None, 30), packet(0, 0, 10), packet(0, 10, 20)]
    found, repaired = read(packets, FILE)
    assert (found, repaired) == ([(0, None, 0), (0, None, 30), (0, 0, 10), (0, 10, 20)], False)
