"""The encoder's variables fill transformers' Whisper encoder, each in its place."""

from typing import Any

import pytest
import torch
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fastav_plugin.lab.pretrained.whisper_base import (
    ENCODER_LAYERS,
    WHISPER_BASE,
    encoder_config,
    load_encoder_weights,
    rename_encoder,
)
from tests.support.weights import folder_of


def variables() -> dict[str, torch.Tensor]:
    """What the file holds, of another width; every value is its own."""
    sizes: dict[str, tuple[int, ...]] = {"encoder/position_encodings/encodings": (5, 2)}
    for name in ("conv1", "conv2"):
        sizes |= {f"encoder/{name}/weight": (2, 2, 3), f"encoder/{name}/bias": (2,)}
    for layer in range(ENCODER_LAYERS):
        base = f"encoder/layer_{layer}"
        for norm in ("self_attention/layer_norm", "ffn/layer_norm"):
            sizes |= {f"{base}/{norm}/gamma": (2,), f"{base}/{norm}/beta": (2,)}
        for name, rows in (
            ("self_attention/linear_0", 6),
            ("self_attention/linear_1", 2),
            ("ffn/linear_0", 8),
            ("ffn/linear_1", 2),
        ):
            sizes |= {f"{base}/{name}/weight": (rows, 2), f"{base}/{name}/bias": (rows,)}
    sizes |= {"encoder/layer_norm/gamma": (2,), "encoder/layer_norm/beta": (2,)}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


def test_every_weight_of_the_encoder_is_named() -> None:
    with torch.device("meta"):
        encoder = WhisperEncoder(encoder_config())
    assert set(rename_encoder(variables())) == set(encoder.state_dict())


def test_the_joined_projection_is_query_key_value() -> None:
    found = variables()
    state = rename_encoder(found)
    joined = found["encoder/layer_3/self_attention/linear_0/weight"]
    for index, name in enumerate(("q_proj", "k_proj", "v_proj")):
        expected = joined[2 * index : 2 * index + 2]
        assert torch.equal(state[f"layers.3.self_attn.{name}.weight"], expected)
    bias = found["encoder/layer_3/self_attention/linear_0/bias"]
    assert torch.equal(state["layers.3.self_attn.v_proj.bias"], bias[4:])
    assert "layers.3.self_attn.k_proj.bias" not in state


def test_the_published_encoder() -> None:
    state = load_encoder_weights(folder_of(WHISPER_BASE))
    encoder: Any = WhisperEncoder(encoder_config())
    encoder.eval()
    encoder.load_state_dict(state)
    with torch.no_grad():
        silence = encoder(torch.full((1, 80, 3000), -1.0)).last_hidden_state
    assert torch.isfinite(silence).all()
    # The position encodings of Whisper's encoder are sines and cosines.
    assert float(state["embed_positions.weight"].abs().max()) == pytest.approx(1.0, abs=1e-3)


def test_the_configuration_takes_more_layers() -> None:
    assert encoder_config().encoder_layers == ENCODER_LAYERS
    assert encoder_config(7).encoder_layers == 7
