"""Tiny copies keep what makes a family different: classes, kinds of layers, grouping of heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from fastav_plugin import FastAVError
from fastav_plugin.compatibility.tiny_copy import LAYERS, head_size_of, tiny_copy

hub: Any = transformers

LARGE = {
    "vocab_size": 1000,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 7,
    "num_attention_heads": 8,
}


def test_a_copy_is_small_and_of_the_same_class() -> None:
    model = hub.Qwen2Model(hub.Qwen2Config(**LARGE, num_key_value_heads=2))
    before = model.config.to_dict()
    tiny: Any = tiny_copy(model)
    assert type(tiny) is type(model)
    assert model.config.to_dict() == before
    assert len(tiny.layers) == LAYERS
    assert tiny.config.vocab_size < 100
    assert sum(weight.numel() for weight in tiny.parameters()) < 200_000
    assert tiny.config.num_key_value_heads < tiny.config.num_attention_heads
    assert not tiny.training
    assert next(tiny.parameters()).dtype == torch.float32


def test_heads_without_groups_stay_so() -> None:
    tiny: Any = tiny_copy(hub.LlamaModel(hub.LlamaConfig(**LARGE)))
    assert tiny.config.num_key_value_heads == tiny.config.num_attention_heads


def test_every_kind_of_layer_is_among_the_few() -> None:
    config = hub.Gemma2Config(**LARGE, num_key_value_heads=2, head_dim=16)
    config.layer_types = [*["sliding_attention"] * 4, "full_attention", *["sliding_attention"] * 2]
    tiny: Any = tiny_copy(hub.Gemma2Model(config))
    assert len(tiny.config.layer_types) == LAYERS
    assert set(tiny.config.layer_types) == {"sliding_attention", "full_attention"}


def test_a_shallow_model_stays_shallow() -> None:
    config = hub.Qwen2Config(**{**LARGE, "num_hidden_layers": 2}, num_key_value_heads=2)
    assert len(tiny_copy(hub.Qwen2Model(config)).layers) == 2  # type: ignore[arg-type]


def test_head_size() -> None:
    assert head_size_of(hub.LlamaConfig(**LARGE)) == 16
    assert head_size_of(hub.LlamaConfig(**LARGE, head_dim=24)) == 24


class Unlike(nn.Module):
    """Not made from a configuration."""

    config = hub.Qwen2Config(**LARGE)


def test_what_cannot_be_copied_is_said() -> None:
    with pytest.raises(FastAVError, match="no small copy of its text model could be built"):
        tiny_copy(Unlike())
