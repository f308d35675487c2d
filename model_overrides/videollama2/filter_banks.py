"""Sound into Kaldi filter banks, as BEATs was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import BatchFeature, SequenceFeatureExtractor

from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.installation import install_hint
from fastav_plugin.media.sound import Waveform

#: Filter banks are made of 16-bit samples, not of samples in [-1, 1].
_FULL_SCALE = 2**15


class BeatsFeatureExtractor(SequenceFeatureExtractor):
    """Log mel filter banks of sounds, all filled up with silence to one length.

    Args:
        feature_size: mel bins.
        sampling_rate: samples per second of the sounds.
        padding_value: of the filler.
        seconds: length of every sound.
    """

    model_input_names = ["input_features"]  # noqa: RUF012

    def __init__(
        self,
        feature_size: int = 128,
        sampling_rate: int = 16_000,
        padding_value: float = 0.0,
        seconds: float = 30.0,
        **kwargs: Any,
    ) -> None:
        self.seconds = seconds
        super().__init__(
            feature_size=feature_size,
            sampling_rate=sampling_rate,
            padding_value=padding_value,
            **kwargs,
        )

    @property
    def frames(self) -> int:
        """Frames of every sound: a window of 25 ms each 10 ms."""
        window, shift = self.sampling_rate // 40, self.sampling_rate // 100
        return 1 + (round(self.seconds * self.sampling_rate) - window) // shift

    def __call__(
        self,
        raw_speech: Waveform | Sequence[Waveform],
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Make the filter banks of one or several sounds.

        Args:
            raw_speech: float [n] in [-1, 1] each; what goes beyond `seconds` is cut off.
            sampling_rate: of the sounds, if known; must be the extractor's.
            return_tensors: "pt", "np" or None.
            kwargs: not used; there is nothing else to set.

        Returns:
            `input_features`, float32 [sounds, frames, mel bins].

        Raises:
            ConfigError: a sound of another rate or of several channels.
            UnsupportedError: kaldi-native-fbank is not installed.
        """
        if sampling_rate not in (None, self.sampling_rate):
            raise ConfigError(
                f"`sampling_rate` must be {self.sampling_rate}, got {sampling_rate}. Resample."
            )
        single = isinstance(raw_speech, np.ndarray) and raw_speech.ndim == 1
        sounds = [np.asarray(s, np.float32) for s in ([raw_speech] if single else raw_speech)]
        length = round(self.seconds * self.sampling_rate)
        features = []
        for sound in sounds:
            if sound.ndim != 1:
                raise ConfigError(f"A sound must have the shape [n], got {list(sound.shape)}.")
            padded = np.full(length, self.padding_value, np.float32)
            padded[: len(sound)] = sound[:length]
            features.append(kaldi_filter_banks(padded, self.sampling_rate, self.feature_size))
        return BatchFeature({"input_features": np.stack(features)}, tensor_type=return_tensors)


def kaldi_filter_banks(
    waveform: Waveform, sample_rate: int = 16_000, bins: int = 128
) -> npt.NDArray[np.float32]:
    """Log mel filter banks as Kaldi makes them: windows of 25 ms every 10 ms, no dither.

    Args:
        waveform: float32 [n] in [-1, 1].
        sample_rate: samples per second.
        bins: mel bins.

    Returns:
        float32 [frames, bins]; only whole windows count.

    Raises:
        ConfigError: less than one window.
        UnsupportedError: kaldi-native-fbank is not installed.
    """
    if len(waveform) < sample_rate // 40:
        raise ConfigError(f"{len(waveform)} samples are no whole window of {sample_rate // 40}.")
    try:
        import kaldi_native_fbank as kaldi
    except ImportError as error:
        raise UnsupportedError(
            f"Filter banks need kaldi-native-fbank. {install_hint('media')}"
        ) from error
    options = kaldi.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = bins
    banks = kaldi.OnlineFbank(options)
    banks.accept_waveform(sample_rate, waveform * _FULL_SCALE)
    banks.input_finished()
    frames = [banks.get_frame(index) for index in range(banks.num_frames_ready)]
    return np.array(frames, np.float32)
