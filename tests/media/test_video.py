"""Frames and sound picked out of files, against a plain decode of everything."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fastav_plugin import ConfigError
from fastav_plugin.media import video
from fastav_plugin.media.clips import ClipFile
from fastav_plugin.media.files import Source
from fastav_plugin.media.sound import read_sound

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


def picked(path: Path, indices: Sequence[int]) -> list[Any]:
    return list(ClipFile(path).frames(indices))


def test_picked_frames_are_those_of_a_whole_decode() -> None:
    with av.open(str(CLIP)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    clip = ClipFile(CLIP)
    assert (clip.count, clip.rate, clip.seconds) == (len(every), 8.0, 8.0)
    indices = [0, 3, 3, 17, len(every) - 1]
    found = picked(CLIP, indices)
    assert len(found) == len(indices)
    for index, frame in zip(indices, found, strict=True):
        assert np.array_equal(frame, every[index])
    # The last picture stands.
    assert np.array_equal(picked(CLIP, [len(every) + 5])[0], every[-1])


CONTAINERS = [
    ("mp4", "libx264", {}),
    ("mp4", "libx264", {"x264-params": "open-gop=1:keyint=50:bframes=3"}),
    ("mkv", "libx264", {}),
    ("mkv", "libx264", {"x264-params": "keyint=20:bframes=8:b-pyramid=normal"}),
    ("mp4", "libx265", {"x265-params": "log-level=none:keyint=60"}),
    ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ("avi", "libx264", {}),
    ("avi", "mpeg4", {"bf": "2"}),
    ("ts", "libx264", {"x264-params": "keyint=50"}),
    ("mpg", "mpeg2video", {"bf": "2"}),
    ("vob", "mpeg2video", {"bf": "2"}),
]


@pytest.mark.parametrize(("ending", "codec", "options"), CONTAINERS)
def test_far_frames_are_exact_in_every_container(
    tmp_path: Path, ending: str, codec: str, options: dict[str, str]
) -> None:
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
    assert ClipFile(path).count == len(every) == 300
    for indices in ([0, 5, 120, 121, 290], [77, 299], [250]):
        found = picked(path, indices)
        assert len(found) == len(indices)
        for index, picture in zip(indices, found, strict=True):
            assert np.array_equal(picture, every[index]), index


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_far_frames_are_sought(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"long.{ending}"
    long_clip(path, seconds=1000)
    sent = []
    stock = video._Decoder._send

    def counting(self: Any, packet: Any) -> Any:
        sent.append(packet)
        return stock(self, packet)

    monkeypatch.setattr(video._Decoder, "_send", counting)
    for time, frame in zip((500, 990), ClipFile(path).show([500.5, 990.5]), strict=True):
        assert abs(frame.mean() - time * 200 // 1000) < 3
    assert len(sent) <= 2 * 252  # one group of pictures of x264 each


def test_an_index_that_is_wrong_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key frames that are not where the index says: the file is decoded from its beginning."""
    path = tmp_path / "long.mp4"
    long_clip(path, seconds=600)
    clip = ClipFile(path)
    (right,) = clip.show([590.0])
    track = clip._tracks.pictures
    assert track is not None
    monkeypatch.setitem(vars(track), "keys", track.keys + 0.3)
    (found,) = clip.show([590.0])
    assert np.array_equal(found, right)


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
    assert ClipFile(tmp_path / "long.mp4").count == 7200
    tracemalloc.start()
    frames = picked(tmp_path / "long.mp4", [0, 1800, 3600, 5400, 7199])
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
    for read in (lambda p: ClipFile(p).seconds, read_sound, lambda p: picked(p, [0])):
        with pytest.raises(ConfigError, match="Cannot read the media file '.*broken.mp4'"):
            read(path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    long_clip(tmp_path / "mute.mp4", seconds=3)
    assert not ClipFile(tmp_path / "mute.mp4").has_sound
    with pytest.raises(ConfigError, match="holds no sound"):
        read_sound(tmp_path / "mute.mp4")
    with av.open(str(tmp_path / "blind.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ones((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = ClipFile(tmp_path / "blind.wav")
    assert (clip.count, clip.has_pictures, clip.sound_seconds) == (0, False, 0.05)
    with pytest.raises(ConfigError, match="holds no pictures"):
        clip.show([0.0])


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
    assert ClipFile(tmp_path / "bare.h264").count == len(every) == 64
    for index, picture in zip(
        [0, 30, 63], picked(tmp_path / "bare.h264", [0, 30, 63]), strict=True
    ):
        assert np.array_equal(picture, every[index])


def test_a_file_that_is_damaged_further_on(tmp_path: Path) -> None:
    long_clip(tmp_path / "whole.mp4", seconds=300)
    content = (tmp_path / "whole.mp4").read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    middle = start + (end - start) // 3
    broken = content[:middle] + b"\0" * (end - middle) + content[end:]
    (tmp_path / "cut.mp4").write_bytes(broken)
    assert len(picked(tmp_path / "cut.mp4", [0])) == 1
    with pytest.raises(
        ConfigError, match=r"cut.mp4': \d+ of \d+ packets of its pictures cannot be decoded"
    ):
        picked(tmp_path / "cut.mp4", [0, 299])
    assert len(list(ClipFile(Source(tmp_path / "cut.mp4", True)).frames([0, 299]))) == 2


def test_other_streams_are_neither_pictures_nor_sound(tmp_path: Path) -> None:
    (tmp_path / "words.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    with pytest.raises(ConfigError, match="it holds text, no media"):
        ClipFile(tmp_path / "words.srt").seconds  # noqa: B018
