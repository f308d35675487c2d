from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from fastav_plugin.lab.testbed.media import write_clip, write_media
from fastav_plugin.lab.testbed.picture import frame_times, render_frames
from fastav_plugin.lab.testbed.sound import render_waveform
from fastav_plugin.lab.testbed.world import Difficulty, sample_clip
from fastav_plugin.media.clips import read_clip


def test_a_file_gives_back_the_clip_up_to_codec_loss(tmp_path: Path) -> None:
    clip = sample_clip(11, Difficulty(4))
    write_clip(tmp_path / "clip.mp4", clip)
    frames, waveform = read_clip(tmp_path / "clip.mp4")
    rendered = render_frames(clip, frame_times(clip, 2))
    assert frames.shape == rendered.shape
    assert np.abs(frames.astype(float) - rendered).mean() < 6
    samples = render_waveform(clip)
    assert waveform.shape == samples.shape
    assert np.corrcoef(waveform, samples)[0, 1] > 0.99


def test_writing_is_deterministic(tmp_path: Path) -> None:
    clip = sample_clip(12, Difficulty(2))
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, clip)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_number_of_frames_is_even(tmp_path: Path) -> None:
    frames = np.zeros((12, 112, 112, 3), np.uint8)
    write_media(tmp_path / "short.mp4", frames, np.zeros(24_000, np.float32), 8)
    read, waveform = read_clip(tmp_path / "short.mp4")
    assert len(read) == 4
    assert waveform.shape == (32_000,)


def test_a_file_without_sound_is_silent(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 112
        stream.pix_fmt = "yuv420p"
        for _ in range(16):
            image = np.full((112, 112, 3), 90, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    frames, waveform = read_clip(tmp_path / "mute.mp4")
    assert frames.shape == (4, 112, 112, 3)
    assert not waveform.any()


def test_a_file_without_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        silence = np.zeros((1, 16_000), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="holds no pictures"):
        read_clip(tmp_path / "sound.mp4")
