"""Connector and sound encoder against outputs of the authors' modules, and other sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from fastav_plugin import ConfigError
from fastav_plugin.model_overrides.videollama2 import BeatsConfig, BeatsEncoder, STCConnector
from fastav_plugin.model_overrides.videollama2.beats import relative_buckets

DATA = Path(__file__).parents[2] / "data"
SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "patch_embed_size": 24,
}
TABLE = "encoder.layers.{}.self_attn.relative_attention_bias.weight"


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dict of the authors' module, and its inputs and output."""
    found = load_file(DATA / f"videollama2_{name}.safetensors")
    state = {key[6:]: value for key, value in found.items() if key.startswith("state/")}
    return state, {key: value for key, value in found.items() if not key.startswith("state/")}


@torch.no_grad()
def test_connector() -> None:
    state, example = golden("stc_connector_v35")
    connector = STCConnector(vision_size=24, hidden_size=40, depth=2, mlp_depth=2)
    connector.load_state_dict(state)
    torch.testing.assert_close(connector(example["input"]), example["output"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_sound_encoder() -> None:
    state, example = golden("beats")
    encoder = BeatsEncoder(BeatsConfig(**SIZES))
    encoder.load_state_dict(state)
    torch.testing.assert_close(encoder(example["fbank"]), example["output"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_table_of_the_first_layer_is_enough_and_a_classifier_is_left_out() -> None:
    state, example = golden("beats")
    del state[TABLE.format(1)]
    state |= {"predictor.weight": torch.ones(3, 48), "predictor.bias": torch.ones(3)}
    encoder = BeatsEncoder(BeatsConfig(**SIZES))
    encoder.load_state_dict(state)
    assert "predictor.weight" in state
    torch.testing.assert_close(encoder(example["fbank"]), example["output"], rtol=0, atol=1e-5)


def test_tables_that_differ_are_refused() -> None:
    state, _ = golden("beats")
    state[TABLE.format(1)] = state[TABLE.format(1)] + 1
    with pytest.raises(ConfigError, match="layers.1.*differs from the table of layer 0"):
        BeatsEncoder(BeatsConfig(**SIZES)).load_state_dict(state)
    del state[TABLE.format(0)]
    with pytest.raises(RuntimeError, match="Missing key.*layers.0.self_attn.relative"):
        BeatsEncoder(BeatsConfig(**SIZES)).load_state_dict(state)


@pytest.mark.parametrize(("buckets", "farthest"), [(320, 800), (64, 100)])
def test_buckets_are_those_of_wavlm(buckets: int, farthest: int) -> None:
    """The golden output is too short to reach the logarithmic half."""
    theirs: Any = WavLMAttention(48, 4, num_buckets=buckets, max_distance=farthest)
    distance = torch.arange(-1495, 1496)
    expected = theirs._relative_positions_bucket(distance)
    assert torch.equal(relative_buckets(distance, buckets, farthest), expected)
    assert expected.max() == buckets - 1


@torch.no_grad()
@pytest.mark.parametrize(("depth", "mlp_depth", "width"), [(1, 1, 24), (3, 3, 40)])
def test_connector_of_other_sizes(depth: int, mlp_depth: int, width: int) -> None:
    connector = STCConnector(width, 40, depth=depth, mlp_depth=mlp_depth).eval()
    names = {name.rsplit(".", 1)[0] for name in connector.state_dict()}
    assert (f"s1.b{depth}.se.fc1" in names, f"s1.b{depth + 1}.se.fc1" in names) == (True, False)
    assert f"readout.{2 * mlp_depth - 2}" in names
    # A shortcut is a convolution only where the width changes.
    assert ("s1.b1.downsample.conv" in names) == (width != 40)
    tokens = connector(torch.randn(2, 5, 49, width))
    assert tokens.shape == (2, 2 * 3 * 3, 40)
    # Rows of a batch do not meet, and the odd frame is left out.
    again = torch.randn(1, 5, 49, width)
    assert torch.equal(connector(again), connector(again[:, :4]))


@pytest.mark.parametrize("shape", [(1, 4, 50, 24), (1, 1, 81, 24), (1, 4, 1, 24)])
def test_connector_refuses_what_it_cannot_fold(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="at least 2 frames of square pictures"):
        STCConnector(24, 40, depth=1)(torch.zeros(shape))
    with pytest.raises(ConfigError, match="at least 1, got 0 and 2"):
        STCConnector(24, 40, depth=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 6, "num_hidden_layers": 3},
        {"conv_pos": 15, "conv_pos_groups": 8},
        {"gru_rel_pos": False, "deep_norm": False},
        {"num_buckets": 32, "max_distance": 40, "patch_size": 8},
    ],
)
def test_sound_encoder_of_other_sizes(changes: dict[str, Any]) -> None:
    config = BeatsConfig(**SIZES | changes)
    encoder = BeatsEncoder(config).eval()
    tokens = encoder(torch.randn(2, 90, 128) * 5 + 15)
    assert tokens.shape == (2, config.tokens(90), 48)
    assert tokens.isfinite().all()
    assert ("encoder.layers.0.self_attn.grep_a" in encoder.state_dict()) == config.gru_rel_pos


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="`hidden_size` 48 must be a multiple of `num_att"):
        BeatsEncoder(BeatsConfig(**SIZES | {"num_attention_heads": 5}))
    with pytest.raises(ConfigError, match="`layer_norm_first` must be False"):
        BeatsConfig(layer_norm_first=True)
