"""Sound of files: its length, its channels, and what is made of its end."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from fastav_plugin.media.sound import SAMPLE_RATE, fit_length, read_sound, sound_seconds


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


def test_the_length_is_that_of_the_samples(stereo: Path) -> None:
    assert sound_seconds(stereo) == 0.5


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
