from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from fastav_plugin.errors import ConfigError
from fastav_plugin.lab.demo.own_clip import FORMS, check_questions, default_questions, read_start
from fastav_plugin.lab.testbed.media import write_media
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.lab.testbed.tasks import held_out_items
from fastav_plugin.media.clips import read_clip


def test_every_question_of_the_testbed_is_understood() -> None:
    asked = [item.question.text for item in held_out_items(20)]
    check_questions(asked)
    check_questions(default_questions())
    check_questions(["is circle visible", "WHICH COLOR IS A RING"])
    assert len({question.split()[-1] for question in asked}) >= 4
    for form in FORMS:  # and none of the forms is idle
        start = form.split("SHAPE")[0].split("SOUND")[0]
        assert any(question.startswith(start) for question in asked)


@pytest.mark.parametrize("question", ["", "circle", "Is the red visible?", "Is the hum visible?"])
def test_other_forms_are_refused(question: str) -> None:
    with pytest.raises(ConfigError, match="never asked"):
        check_questions([question])


def test_a_whole_clip_is_read_as_everywhere() -> None:
    frames, waveform, remarks = read_start(SAMPLES[0].path)
    same_frames, same_waveform = read_clip(SAMPLES[0].path)
    assert np.array_equal(frames, same_frames)
    assert np.array_equal(waveform, same_waveform)
    assert remarks == []


def test_a_long_clip_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    noise = np.random.default_rng(0).standard_normal(3 * 16_000).astype(np.float32) * 0.1
    write_media(path, np.zeros((24, 360, 640, 3), np.uint8), noise, 8)
    frames, waveform, remarks = read_start(path, 2)
    assert frames.shape == (4, 360, 640, 3)
    assert waveform.shape == (32_000,)
    assert waveform[-1600:].any()
    assert remarks == ["Only the first 2 s of long.mp4 are used."]


def test_a_clip_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "mute.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(4):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    frames, waveform, remarks = read_start(path)
    assert len(frames) == 2  # one, and the same again
    assert waveform.shape == (16_000,)
    assert not waveform.any()
    assert remarks[-1] == "Nothing is heard of mute.mp4: the audio input is silent."


def test_a_sound_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ConfigError, match="holds no pictures"):
        read_start(path)
