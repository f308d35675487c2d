"""Families with audio."""

from __future__ import annotations

from typing import Any

import torch

from tests.matrix.media import Medium, sound
from tests.matrix.shrink import part
from tests.support.family_configs import HIDDEN

_CODEC = {"downsampling_ratios": [2, 2], "depths": [1, 1, 1], "num_filters": 8}
_CONFORMER = {"context_size": 20, "hidden_dim": 32, "input_dim": 16, "dim_head": 16}
_GRANITE = (
    part("encoder_config", _CONFORMER),
    sound((15, 30), 150, 16, mask=("input_features_mask", 30, 15, 30), dtype=torch.bool),
)
#: A token reads 20 samples, every 10.
_CONVOLUTIONS = {
    "conv_dim": [8, 8],
    "conv_kernel": [10, 3],
    "conv_stride": [5, 2],
    "num_conv_pos_embeddings": 16,
}
_WINDOWS = {"downsample_hidden_size": 8, "n_window": 50, "n_window_infer": 100}
_HALVED_TWICE = sound((20, 40), 16, 160, mask=("input_features_mask", 160, 80, 160))

#: model_type: changes of the shrunk configuration, a medium.
SOUNDS: dict[str, tuple[dict[str, Any], Medium]] = {
    "audioflamingo3": ({}, _HALVED_TWICE),
    "fun_asr_nano": (
        {"adaptor_config.hidden_size": HIDDEN},
        sound((20, 40), 40, 112, mask=("input_features_mask", 40, 20, 40)),
    ),
    "glmasr": (
        {"audio_config.intermediate_size": 128},
        sound((10, 20), 16, 160, mask=("input_features_mask", 160, 80, 160)),
    ),
    "granite_speech": _GRANITE,
    "granite_speech_plus": _GRANITE,
    "moss_transcribe_diarize": (
        {},
        sound((10, 20), 16, 160, mask=("input_features_mask", 160, 80, 160), padding_mask=100),
    ),
    "musicflamingo": ({"head_dim": 32}, _HALVED_TWICE),
    "omniasr": (
        part("audio_config", _CONVOLUTIONS),
        sound((20, 40), 1, 410, mask=("padding_mask", 410, 210, 410), key="input_values"),
    ),
    "qwen2_audio": ({}, sound((20, 40), 16, 160, mask=("feature_attention_mask", 160, 80, 160))),
    "qwen3_asr": (
        part("audio_config", _WINDOWS),
        sound((13, 26), 16, 200, mask=("input_features_mask", 200, 100, 200)),
    ),
    "vibevoice_asr": (
        part("semantic_tokenizer_encoder_config", _CODEC)
        | part("acoustic_tokenizer_encoder_config", _CODEC)
        | {"acoustic_tokenizer_chunk_size": 80},
        sound((10, 20), 1, 80, mask=("padding_mask", 80, 40, 80), key="input_values"),
    ),
    "voxtral": ({"audio_config.intermediate_size": 128}, sound((20, 20), 16, 160)),
}
