"""Clips at a frame rate, from files of any length."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fastav_plugin import ConfigError
from fastav_plugin.media.clips import ClipFile, Video, read_clip, read_video
from tests.media.test_video import CLIP, long_clip


@pytest.mark.parametrize("most", [2, 5, 8, 16, 20])
def test_fewer_frames_are_those_of_the_whole_spread_evenly(most: int) -> None:
    whole, waveform = read_clip(CLIP)
    few = read_video(CLIP, 2, most)
    count = min(len(whole), most - most % 2)
    chosen = np.linspace(0, len(whole) - 1, count).round().astype(int)
    assert np.array_equal(few.frames, whole[chosen])
    assert few.fps == 2 * count / len(whole)
    assert few.waveform is not None
    assert np.array_equal(few.waveform, waveform)


def test_a_few_frames_of_two_hours_are_not_the_film(tmp_path: Path) -> None:
    long_clip(tmp_path / "long.mp4")
    tracemalloc.start()
    video = read_video(tmp_path / "long.mp4", 1, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.allclose(video.frames.mean((1, 2, 3)), np.linspace(0, 200, 8), atol=3)
    assert video.waveform is None
    # All frames would be 88 MB; silence as long as the film is none either.
    assert peak < 4_000_000


def write_pictures(path: Path, times: list[float], end: float, sound: float = 0.0) -> Path:
    """Greys of 10, 20 ... at exact times, the last until `end`; and a tone of some seconds."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("ffv1", rate=100)
        video.width, video.height, video.pix_fmt = 16, 16, "gray"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="mono") if sound else None
        for number, (time, after) in enumerate(zip(times, [*times[1:], end], strict=True), 1):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16), 10 * number, np.uint8), "gray")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            for packet in video.encode(frame):
                packet.duration = round(1000 * (after - time))
                container.mux(packet)
        container.mux(video.encode(None))
        if audio is not None:
            tone = np.full((1, round(16_000 * sound)), 9000, np.int16)
            heard = av.AudioFrame.from_ndarray(tone, "s16", "mono")
            heard.sample_rate = 16_000
            container.mux([*audio.encode(heard), *audio.encode(None)])
    return path


def greys(video: Video) -> list[int]:
    return [round(float(frame.mean())) for frame in video.frames]


def test_slides_last_until_the_next_one(tmp_path: Path) -> None:
    """Pictures at 0, 3 and 3.5 s of a clip of 5 s, sampled once and twice a second."""
    path = write_pictures(tmp_path / "slides.mkv", [0, 3, 3.5], 5)
    assert greys(read_video(path, 1)) == [10, 10, 10, 20, 30, 30]
    assert greys(read_video(path, 2)) == [10] * 6 + [20] + [30] * 3
    few = read_video(path, 2, 4)
    assert (greys(few), few.fps) == ([10, 10, 20, 30], 0.8)


def test_the_longer_of_pictures_and_sound_decides(tmp_path: Path) -> None:
    """The last picture stands, or silence follows; both come equally long."""
    longer = read_video(write_pictures(tmp_path / "heard.mkv", [0, 1], 2, sound=5), 2)
    assert greys(longer) == [10, 10] + [20] * 8
    assert longer.waveform is not None
    assert len(longer.waveform) == 80_000
    assert longer.waveform[-1] != 0
    shorter = read_video(write_pictures(tmp_path / "seen.mkv", [0, 1], 4, sound=1), 2)
    assert greys(shorter) == [10, 10] + [20] * 6
    assert shorter.waveform is not None
    assert len(shorter.waveform) == 64_000
    assert shorter.waveform[15_999] != 0
    assert not shorter.waveform[16_001:].any()


def test_only_the_first_seconds(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "clip.mkv", [0, 1, 2, 3], 4, sound=4)
    first = read_video(path, 2, seconds=2.0)
    assert greys(first) == [10, 10, 20, 20]
    assert first.waveform is not None
    assert len(first.waveform) == 32_000


def test_an_even_view_of_uneven_pictures(tmp_path: Path) -> None:
    clip = ClipFile(write_pictures(tmp_path / "slides.mkv", [0, 3, 3.5], 5))
    assert (clip.rate, clip.count) == (25.0, 125)
    shown = [round(float(frame.mean())) for frame in clip.frames([0, 74, 75, 86, 88, 124])]
    assert shown == [10, 10, 20, 20, 30, 30]
    long = ClipFile(write_pictures(tmp_path / "long.mkv", [0, 10, 20], 25))
    assert (long.rate, long.count) == (25.0, 625)
    even = ClipFile(write_pictures(tmp_path / "even.mkv", [0, 1, 2, 3], 4))
    assert (even.rate, even.count) == (1.0, 4)


def test_an_animated_picture_is_a_clip_of_one_loop(tmp_path: Path) -> None:
    first, *rest = [Image.new("L", (16, 16), 50 * number) for number in (1, 2, 3)]
    path = tmp_path / "moving.gif"
    first.save(path, save_all=True, append_images=rest, duration=[1000, 500, 700], loop=0)
    assert greys(read_video(path, 2)) == [50, 50, 100, 150, 150, 150]
    clip = ClipFile(path)
    assert (clip.has_sound, clip.seconds, clip.count) == (False, 2.2, 55)
    with pytest.raises(ConfigError, match="is a picture and holds no sound"):
        clip.sound()
    Image.new("L", (16, 16), 70).save(tmp_path / "still.png")
    assert greys(read_video(tmp_path / "still.png")) == [70, 70]


def test_a_picture_is_no_sound_and_a_sound_no_clip(tmp_path: Path) -> None:
    write_pictures(tmp_path / "mute.mkv", [0, 1], 2)
    assert read_video(tmp_path / "mute.mkv").waveform is None
    with pytest.raises(ConfigError, match="holds no sound"):
        ClipFile(tmp_path / "mute.mkv").sound()
