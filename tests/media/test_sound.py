"""Sound of files on their timeline: its length, its channels, gaps, overlaps and changes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastav_plugin import ConfigError
from fastav_plugin.media import sound
from fastav_plugin.media.sound import SAMPLE_RATE, fit_length, read_sound


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    """Half a second at 8 kHz: one channel constant, the other silent."""
    path = tmp_path / "stereo.wav"
    samples = np.zeros((2, 4000), np.float32)
    samples[0] = 0.5
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=8000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T).reshape(1, -1), format="flt", layout="stereo"
        )
        frame.sample_rate = 8000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def write_pieces(
    path: Path, pieces: Sequence[tuple[int, float]], size: int = 1600, rate: int = SAMPLE_RATE
) -> Path:
    """A packet of `size` equal samples for each piece: its first sample's number, and its level."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        stream.time_base = Fraction(1, rate)
        for first, level in pieces:
            packet = av.Packet(np.full(size, round(level * 32767), np.int16).tobytes())
            packet.stream, packet.time_base = stream, Fraction(1, rate)
            packet.pts = packet.dts = first
            packet.duration = size
            container.mux_one(packet)
    return path


def level(waveform: np.ndarray, start: float, stop: float) -> float:
    part = waveform[round(start * SAMPLE_RATE) + 2 : round(stop * SAMPLE_RATE) - 2]
    assert np.ptp(part) < 1e-4
    return float(part[0])


@pytest.mark.parametrize("mix", [True, False])
def test_channels(stereo: Path, mix: bool) -> None:
    (sound,) = read_sound(stereo, mix=mix)
    assert sound.dtype == np.float32
    assert abs(len(sound) - SAMPLE_RATE // 2) < 40
    middle = sound[1000:7000]
    assert np.allclose(middle, 0.5 if not mix else middle[0], atol=1e-3)
    assert (middle[0] < 0.45) == mix


def test_a_length_is_met_by_silence_or_a_cut() -> None:
    sound = np.ones(5, np.float32)
    assert fit_length(sound, 3).tolist() == [1, 1, 1]
    assert fit_length(sound, 7).tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert fit_length(None, 2).tolist() == [0, 0]


def test_a_gap_is_silent_and_an_overlap_is_cut(tmp_path: Path) -> None:
    """At 0.1 s each: one, a gap, two that overlap by half, and what goes on."""
    pieces = [(0, 0.1), (3200, 0.2), (4000, 0.3), (5600, 0.4)]
    (waveform,) = read_sound(write_pieces(tmp_path / "pieces.mkv", pieces))
    spans = [(0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.35), (0.35, 0.45)]
    found = [level(waveform, *span) for span in spans]
    assert found == pytest.approx([0.1, 0, 0.2, 0.3, 0.4], abs=1e-3)
    assert len(waveform) == 7200


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=12),
    st.sampled_from([8000, 16_000, 44_100, 48_000]),
)
def test_random_gaps_are_found_again(tmp_path: Path, gaps: list[int], rate: int) -> None:
    """Each piece of a tenth of a second lies where its time stamp says, to one sample."""
    size = rate // 10
    firsts = np.cumsum([0] + [size + size * gap // 4 for gap in gaps]).tolist()
    path = write_pieces(tmp_path / "gaps.mkv", [(first, 0.5) for first in firsts], size, rate)
    (waveform,) = read_sound(path)
    loud = np.zeros(len(waveform) + SAMPLE_RATE, bool)
    for first in firsts:
        # Matroska rounds to milliseconds, and every piece after a gap is placed anew.
        start = round(first / rate * SAMPLE_RATE)
        loud[start : start + SAMPLE_RATE // 10] = True
    wrong = np.abs(waveform) > 0.25
    assert (wrong != loud[: len(waveform)]).sum() <= 2 * 8 * len(firsts)
    assert abs(len(waveform) - (firsts[-1] / rate + 0.1) * SAMPLE_RATE) <= 16


def test_rounded_time_stamps_are_no_gaps(tmp_path: Path) -> None:
    """Milliseconds cut packets of 1024 samples at 44.1 kHz unevenly; the sound stays whole."""
    path = tmp_path / "tone.mkv"
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100).astype(np.float32) / 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=44_100, layout="mono")
        for first in range(0, 44_100, 1024):
            piece = np.ascontiguousarray(tone[None, first : first + 1024])
            frame = av.AudioFrame.from_ndarray(piece, "flt", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 44_100, first, Fraction(1, 44_100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (waveform,) = read_sound(path)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(waveform)) / SAMPLE_RATE) / 2
    assert np.abs(waveform - expected)[50:-50].max() < 1e-3


def test_rate_and_channels_may_change(tmp_path: Path) -> None:
    """Two parts of a broadcast, one after the other."""
    parts = []
    for number, (rate, layout) in enumerate(((48_000, "stereo"), (32_000, "mono"))):
        path = tmp_path / f"{number}.ts"
        with av.open(str(path), "w", format="mpegts") as container:
            stream = container.add_stream("mp2", rate=rate, layout=layout)
            tone = np.sin(2 * np.pi * (500 + 500 * number) * np.arange(rate) / rate)
            samples = np.tile((20_000 * tone).astype(np.int16), (2 if layout == "stereo" else 1, 1))
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples.T).reshape(1, -1), "s16", layout
            )
            frame.sample_rate, frame.pts = rate, number * rate
            frame.time_base = Fraction(1, rate)
            for piece in av.AudioResampler("s16", layout, rate).resample(frame):
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
        parts.append(path.read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    (waveform,) = read_sound(tmp_path / "both.ts")
    for start, frequency in ((0.3, 500), (1.3, 1000)):
        part = waveform[round(start * SAMPLE_RATE) :][:8000]
        assert np.argmax(np.abs(np.fft.rfft(part))) * 2 == frequency


def long_sound(path: Path, seconds: int) -> Path:
    """Every second has its own level."""
    levels = np.repeat(0.2 + 0.6 * (np.arange(seconds) % 50) / 50, 8000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        for first in range(0, len(levels), 4000):
            piece = (levels[None, first : first + 4000] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(piece, "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, first, Fraction(1, 8000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("ending", ["mkv", "flac", "mp4"])
def test_stretches_that_lie_far_apart_are_sought(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = long_sound(tmp_path / f"long.{ending}", 600)
    (whole,) = read_sound(path)
    assert len(whole) == 600 * SAMPLE_RATE
    decoded: list[int] = []
    monkeypatch.setattr(sound._Run, "add", _counting(sound._Run.add, decoded))
    found = read_sound(path, [(500.0, 502.0), (1.0, 3.0), (250.5, 252.5)])
    assert sum(decoded) < 60 * 8000
    for waveform, start in zip(found, (500, 1, 250.5), strict=True):
        first = int(start * SAMPLE_RATE)
        expected = whole[first : first + 2 * SAMPLE_RATE]
        assert np.abs(waveform - expected).max() < 0.02 or ending != "flac"
        middle = waveform[SAMPLE_RATE // 4 : SAMPLE_RATE // 2]
        assert np.allclose(middle, expected[SAMPLE_RATE // 4 : SAMPLE_RATE // 2], atol=1e-3)


def _counting(add: Any, decoded: list[int]) -> Any:
    def counted(self: Any, frame: Any, time: float) -> Any:
        decoded.append(frame.samples)
        return add(self, frame, time)

    return counted


def test_a_silent_sound_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_sound(write_pieces(tmp_path / "silent.wav", [(0, 0.0)]))
    assert [record.getMessage() for record in caplog.records] == [
        f"'{tmp_path / 'silent.wav'}': its sound is silent."
    ]


def test_damaged_packets_are_silent(tmp_path: Path) -> None:
    path = long_sound(tmp_path / "long.flac", 60)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    (waveform,) = read_sound(path)
    assert abs(len(waveform) - 60 * SAMPLE_RATE) < SAMPLE_RATE // 2
    assert (waveform == 0).mean() < 0.05
    content[9000:] = bytes(len(content) - 9000)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cut off: it has \d+\.\d of 60\.0 s"):
        read_sound(path)


@pytest.mark.parametrize(
    ("ending", "codec"), [("mp3", "libmp3lame"), ("m4a", "aac"), ("ogg", "libopus"), ("wav", None)]
)
def test_a_stretch_far_inside_is_that_of_the_whole(
    tmp_path: Path, ending: str, codec: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies before it is not decoded, and it has the same samples."""
    path = tmp_path / f"long.{ending}"
    rate = 48_000 if codec == "libopus" else 44_100
    time = np.arange(150 * rate) / rate
    samples = (2**14 * np.sin((1000 + 6 * time) * time)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate = rate
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec or "pcm_s16le", rate=rate)
        stream.layout = "mono"
        for part in (frame, None):
            file.mux(stream.encode(part))
    (whole,) = read_sound(path)
    spans = [(100.3, 102.3), (0.5, 1.5), (149.0, 149.5)]
    decoded: list[int] = []
    monkeypatch.setattr(sound._Run, "add", _counting(sound._Run.add, decoded))
    stretches = read_sound(path, spans)
    assert sum(decoded) < 70 * rate
    for (start, stop), found in zip(spans, stretches, strict=True):
        first = int(start * SAMPLE_RATE)
        assert len(found) == round((stop - start) * SAMPLE_RATE)
        assert np.array_equal(found, whole[first : first + len(found)])
