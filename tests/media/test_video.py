"""Frames and sound picked out of files, against a plain decode of everything."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fastav_plugin import ConfigError
from fastav_plugin.media import video
from fastav_plugin.media.clips import probe_clip
from fastav_plugin.media.sound import read_sound
from fastav_plugin.media.video import count_frames, stream_frames

CLIP = Path(__file__).parents[2] / "fastav_plugin/lab/testbed/clips/single.mp4"


def long_clip(path: Path, seconds: int = 7200) -> None:
    """Two hours in which every second has its own grey, or nearly."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "threads": "1"}
        for second in range(seconds):
            grey = np.full((64, 64, 3), second * 200 // seconds, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))


def test_picked_frames_are_those_of_a_whole_decode() -> None:
    with av.open(str(CLIP)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    facts = probe_clip(CLIP)
    assert (facts.frames, facts.fps, facts.seconds) == (len(every), 8.0, 8.0)
    indices = [0, 3, 3, 17, len(every) - 1]
    picked = list(stream_frames(CLIP, indices))
    assert len(picked) == len(indices)
    for index, frame in zip(indices, picked, strict=True):
        assert np.array_equal(frame, every[index])
    assert list(stream_frames(CLIP, [len(every) + 5])) == []


CONTAINERS = [
    ("mp4", "libx264", {}),
    ("mp4", "libx264", {"x264-params": "open-gop=1:keyint=50:bframes=3"}),
    ("mkv", "libx264", {}),
    # Containers without an index of exact times: a seek would miss.
    ("avi", "libx264", {}),
    ("ts", "libx264", {}),
    ("mpg", "mpeg2video", {}),
]


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(("ending", "codec", "options"), CONTAINERS)
def test_far_frames_are_exact_in_every_container(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    codec: str,
    options: dict[str, str],
    trusted: bool,
) -> None:
    """Also where an index is trusted that turns out to be wrong."""
    if trusted:
        monkeypatch.setattr(video, "_INDEXED", (*video._INDEXED, "avi"))
    path = tmp_path / f"clip.{ending}"
    texture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"threads": "1", **options}
        for shift in range(300):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, shift, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert count_frames(path) == len(every) == 300
    for indices in ([0, 5, 120, 121, 290], [77, 299], [250]):
        picked = list(stream_frames(path, indices))
        assert len(picked) == len(indices)
        for index, picture in zip(indices, picked, strict=True):
            assert np.array_equal(picture, every[index]), index


def test_stretches_are_slices_of_the_whole_sound() -> None:
    (whole,) = read_sound(CLIP)
    assert whole.shape == (128_000,)
    assert whole.any()
    first, second, late = read_sound(CLIP, [(0.5, 1.5), (2.0, 4.0), (7.5, 9.0)])
    assert np.array_equal(first, whole[8_000:24_000])
    assert np.array_equal(second, whole[32_000:64_000])
    assert np.array_equal(late, whole[120_000:])


def test_two_hours_are_neither_held_nor_decoded(tmp_path: Path) -> None:
    long_clip(tmp_path / "long.mp4")
    assert probe_clip(tmp_path / "long.mp4").frames == 7200
    tracemalloc.start()
    frames = list(stream_frames(tmp_path / "long.mp4", [0, 1800, 3600, 5400, 7199]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.allclose([frame.mean() for frame in frames], [0, 50, 100, 150, 199], atol=3)
    # All frames would be 88 MB.
    assert peak < 2_000_000


@pytest.mark.parametrize("content", [b"", b"no clip at all", None])
def test_broken_files_are_one_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    for read in (probe_clip, read_sound, lambda p: list(stream_frames(p, [0]))):
        with pytest.raises(ConfigError, match="Cannot read the media file '.*broken.mp4'"):
            read(path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    long_clip(tmp_path / "mute.mp4", seconds=3)
    assert probe_clip(tmp_path / "mute.mp4").seconds is None
    with pytest.raises(ConfigError, match="holds no sound"):
        read_sound(tmp_path / "mute.mp4")
    with av.open(str(tmp_path / "blind.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ones((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    facts = probe_clip(tmp_path / "blind.wav")
    assert (facts.frames, facts.seconds) == (0, 0.05)
    with pytest.raises(ConfigError, match="holds no pictures"):
        list(stream_frames(tmp_path / "blind.wav", [0]))


def test_a_bare_stream_has_no_times(tmp_path: Path) -> None:
    """Frames of a raw H.264 stream can only be counted."""
    with av.open(str(CLIP)) as source, av.open(str(tmp_path / "bare.h264"), "w") as target:
        stream = target.add_stream("libx264", rate=8)
        stream.width = stream.height = source.streams.video[0].width
        stream.pix_fmt = "yuv420p"
        for frame in source.decode(video=0):
            frame.pts = None
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    with av.open(str(tmp_path / "bare.h264")) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert probe_clip(tmp_path / "bare.h264").frames == len(every) == 64
    picked = list(stream_frames(tmp_path / "bare.h264", [0, 30, 63]))
    for index, picture in zip([0, 30, 63], picked, strict=True):
        assert np.array_equal(picture, every[index])


def test_a_file_that_is_damaged_further_on(tmp_path: Path) -> None:
    long_clip(tmp_path / "whole.mp4", seconds=300)
    content = (tmp_path / "whole.mp4").read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    middle = start + (end - start) // 3
    broken = content[:middle] + b"\0" * (end - middle) + content[end:]
    (tmp_path / "cut.mp4").write_bytes(broken)
    assert len(list(stream_frames(tmp_path / "cut.mp4", [0]))) == 1
    with pytest.raises(ConfigError, match="Cannot read the media file '.*cut.mp4'"):
        list(stream_frames(tmp_path / "cut.mp4", [0, 299]))


def test_other_streams_are_neither_pictures_nor_sound(tmp_path: Path) -> None:
    (tmp_path / "words.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    with pytest.raises(ConfigError, match="holds neither pictures nor sound"):
        probe_clip(tmp_path / "words.srt")
