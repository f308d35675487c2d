"""What the frozen part of the audio tower hands on: 50 frames a second, of the real sound alone."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fastav_plugin.lab.pretrained.whisper_base import encoder_config

SAMPLE_RATE = 16_000
#: Samples of a mel frame; mel frames of an encoder frame; encoder frames of an audio token.
HOP, MEL_FRAMES, POOL = 160, 2, 2
#: Mel frames beyond the end that the two convolutions look at, rounded up.
_BEYOND = 8


def token_count(samples: int) -> int:
    """Audio tokens of a sound: 25 a second, rounded up."""
    return math.ceil(samples / (HOP * MEL_FRAMES * POOL))


def mel_extractor() -> Any:
    """Feature extractor of transformers for the log-mel spectra that Whisper base takes."""
    extractor: Any = WhisperFeatureExtractor
    return extractor(feature_size=80)


class FrameEncoder:
    """Whisper base's encoder, without its last norm.

    Qwen2Audio's tower computes the same from the sound padded to 30 s: it masks what is beyond the
    end. Here the rest is not computed at all.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """Take the encoder's weights under the names of transformers."""
        self._encoder: Any = WhisperEncoder(encoder_config())
        self._encoder.train(False).requires_grad_(False)
        self._encoder.load_state_dict(weights)
        self._filters = torch.tensor(
            mel_extractor().mel_filters, dtype=torch.float32
        ).T  # [80, 201]
        self._window = torch.hann_window(400)

    def mel(self, samples: np.ndarray, frames: int) -> Tensor:
        """Log-mel spectrum of the sound and of silence after it, float32 [80, frames]."""
        padded = torch.zeros(frames * HOP + 400)
        padded[: len(samples)] = torch.from_numpy(samples)
        spectrum = torch.stft(padded, 400, HOP, window=self._window, return_complex=True)
        power = self._filters @ spectrum[:, :frames].abs().square()
        log = power.clamp(min=1e-10).log10()
        return (torch.maximum(log, log.max() - 8) + 4) / 4

    @torch.no_grad()
    def __call__(self, samples: np.ndarray) -> Tensor:
        """Encode one sound.

        Args:
            samples: float32 [samples] at 16 kHz, at most 30 s.

        Returns:
            float32 [frames, 512], two frames for each audio token.
        """
        frames = token_count(len(samples)) * POOL
        mel = self.mel(samples, frames * MEL_FRAMES + _BEYOND)[None]
        gelu = torch.nn.functional.gelu
        hidden = gelu(self._encoder.conv2(gelu(self._encoder.conv1(mel))))[..., :frames]
        hidden = hidden.transpose(1, 2) + self._encoder.embed_positions.weight[:frames]
        for layer in self._encoder.layers:
            hidden = layer(hidden, None)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        encoded: Tensor = hidden[0]
        return encoded
