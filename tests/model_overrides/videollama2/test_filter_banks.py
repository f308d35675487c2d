"""Filter banks against transformers' own Kaldi arithmetic, which is in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from fastav_plugin import ConfigError
from fastav_plugin.lab.testbed.samples import CLIPS_PATH
from fastav_plugin.media.sound import Waveform, read_sound
from fastav_plugin.model_overrides.videollama2 import BeatsFeatureExtractor
from fastav_plugin.model_overrides.videollama2.filter_banks import kaldi_filter_banks

# Low mel bins are narrower than the bins of the transform; Kaldi gives them the floor.
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")

FLOOR = 1.192092955078125e-07


def reference(
    waveform: Waveform, bins: int = 128
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    filters = mel_filter_bank(
        num_frequency_bins=257,
        num_mel_filters=bins,
        min_frequency=20,
        max_frequency=8000,
        sampling_rate=16_000,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    found = spectrogram(
        waveform * 2.0**15,
        window_function(400, "povey", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=FLOOR,
        remove_dc_offset=True,
    )
    return found.T


@pytest.mark.parametrize("bins", [128, 64])
def test_noise(bins: int) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 20_000).astype(np.float32)
    found = kaldi_filter_banks(noise, bins=bins)
    assert found.shape == (1 + (20_000 - 400) // 160, bins)
    assert np.abs(found - reference(noise, bins)).max() < 1e-3


def test_sound_of_a_clip() -> None:
    (sound,) = read_sound(CLIPS_PATH / "crowded.mp4", [(1.0, 2.5)])
    assert np.abs(kaldi_filter_banks(sound) - reference(sound)).max() < 1e-3


def test_sounds_are_filled_up_with_silence() -> None:
    extractor = BeatsFeatureExtractor()
    short = np.random.default_rng(2).normal(0, 0.1, 16_000).astype(np.float32)
    found = extractor([short, np.tile(short, 40)])["input_features"]
    assert found.shape == (2, extractor.frames, 128) == (2, 2998, 128)
    np.testing.assert_allclose(found[0, 100:], np.log(FLOOR), rtol=1e-5)
    # Beyond thirty seconds nothing is heard.
    assert np.array_equal(found[1], extractor(np.tile(short, 30))["input_features"][0])
    assert np.array_equal(found[0], extractor(short)["input_features"][0])


def test_what_is_no_sound_is_refused() -> None:
    extractor = BeatsFeatureExtractor()
    with pytest.raises(ConfigError, match="`sampling_rate` must be 16000, got 44100"):
        extractor(np.zeros(9, np.float32), sampling_rate=44_100)
    with pytest.raises(ConfigError, match=r"must have the shape \[n\], got \[2, 9\]"):
        extractor([np.zeros((2, 9), np.float32)])
    with pytest.raises(ConfigError, match="whole window"):
        kaldi_filter_banks(np.zeros(300, np.float32))
