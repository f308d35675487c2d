"""Which tracks of a file are shown and heard, and when."""

from __future__ import annotations

import math
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from fastav_plugin import ConfigError
from fastav_plugin.media.clips import ClipFile
from fastav_plugin.media.tracks import EVEN_RATE, read_tracks
from tests.media.test_video import CLIP

#: Kind, first second, length, and whether it is the default.
Track = tuple[str, float, float, bool]


def write_tracks(path: Path, tracks: Sequence[Track]) -> Path:
    """Tracks of packets of a tenth of a second."""
    with av.open(str(path), "w") as container:
        packets: list[Any] = []
        for kind, start, seconds, default in tracks:
            if kind == "video":
                stream: Any = container.add_stream("mjpeg", rate=10)
                stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
            else:
                stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
            stream.time_base = Fraction(1, 1000)
            stream.disposition = Disposition.default if default else Disposition(0)
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            content = bytes(stream.encode(frame)[0]) if kind == "video" else bytes(3200)
            for number in range(round(10 * seconds)):
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = round(1000 * start) + 100 * number
                packet.duration, packet.is_keyframe = 100, True
                packets.append(packet)
        for packet in sorted(packets, key=lambda packet: packet.pts):
            container.mux_one(packet)
    return path


def test_time_begins_with_the_pictures(tmp_path: Path) -> None:
    for name, start in (("zero", 0.0), ("later", 10.0)):
        tracks = [("video", start, 2.0, True), ("audio", start + 1.5, 3.0, True)]
        found = read_tracks(write_tracks(tmp_path / f"{name}.mkv", tracks))
        assert found.pictures is not None
        assert found.sound is not None
        assert found.origin == pytest.approx(start)
        assert found.pictures.starts[:3].tolist() == pytest.approx([0, 0.1, 0.2])
        assert (found.pictures.end, found.pictures.rate) == pytest.approx((2.0, 10.0))
        assert (found.sound.start, found.sound.end) == pytest.approx((1.5, 4.5))
        assert found.seconds == pytest.approx(4.5)


def test_or_with_a_sound_that_begins_earlier(tmp_path: Path) -> None:
    tracks = [("video", 2.0, 1.0, True), ("audio", 0.5, 1.0, True)]
    found = read_tracks(write_tracks(tmp_path / "early.mkv", tracks))
    assert found.pictures is not None
    assert found.sound is not None
    assert (found.origin, found.pictures.starts[0]) == pytest.approx((0.5, 1.5))
    assert found.sound.start == pytest.approx(0.0)
    tracks = [("video", 0.05, 1.0, True), ("audio", 0.0, 1.0, True)]
    codec = read_tracks(write_tracks(tmp_path / "codec.mkv", tracks))
    assert codec.origin == pytest.approx(0.05)  # the delay of a codec is no beginning


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_the_default_track_is_taken(tmp_path: Path, kind: str) -> None:
    tracks = [(kind, 0.0, 1.0, False), (kind, 0.0, 2.0, True), (kind, 0.0, 3.0, False)]
    found = read_tracks(write_tracks(tmp_path / "three.mkv", tracks))
    track = found.pictures if kind == "video" else found.sound
    assert track is not None
    assert track.stream == 1
    assert found.seconds == pytest.approx(2.0)
    none = [(kind, 0.0, 1.0, False), (kind, 0.0, 2.0, False)]
    assert read_tracks(write_tracks(tmp_path / "none.mkv", none)).seconds == pytest.approx(1.0)


def test_an_empty_track_is_passed_over_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracks = [
        *(("video", 0.0, 1.0, True), ("audio", 0.0, 0.0, True)),
        ("audio", 0.0, 1.0, False),
    ]
    path = write_tracks(tmp_path / "empty.mkv", tracks)
    found = read_tracks(path)
    assert found.sound is not None
    assert found.sound.stream == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"'{path}': its sound track 1 is empty; the next track is used in its place."
    ]
    caplog.clear()
    only = read_tracks(write_tracks(tmp_path / "only.mkv", tracks[:2]))
    assert only.sound is None
    assert "its sound track 1 is empty; no other sound is in the file." in caplog.text


def test_keys_are_where_decoding_can_begin() -> None:
    track = read_tracks(CLIP).pictures
    assert track is not None
    assert track.seekable
    assert track.by_stamp
    keys = [index for index, key in enumerate(track.keys) if not math.isnan(key)]
    with av.open(str(CLIP)) as container:
        shown = [frame.key_frame for frame in container.decode(video=0)]
    assert keys == [index for index, key in enumerate(shown) if key]


def test_a_picture_that_stands_until_the_file_ends(tmp_path: Path) -> None:
    """Matroska states the length of a track, beyond the last packet."""
    path = tmp_path / "still.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        packet = stream.encode(frame)[0]
        packet.duration = round(8 / packet.time_base)
        container.mux(packet)
    track = read_tracks(path).pictures
    assert track is not None
    assert track.end == pytest.approx(8.0)
    assert (track.rate, ClipFile(path).count) == (EVEN_RATE, 200)


def test_nothing_to_see_or_hear(tmp_path: Path) -> None:
    (tmp_path / "words.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    with pytest.raises(ConfigError, match="words.srt': it holds text, no media"):
        read_tracks(tmp_path / "words.srt")
    with wave.open(str(tmp_path / "hollow.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
    with pytest.raises(ConfigError, match="hollow.wav': its tracks are empty"):
        read_tracks(tmp_path / "hollow.wav")
