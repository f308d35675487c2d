"""The profile against attention matrices that the model itself hands out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastav_plugin import ConfigError, FastAVConfig, UnsupportedError, attach
from fastav_plugin.analysis.attention_profile import AttentionProfile, profile_attention
from tests.support.families import FAMILIES


def matrices(name: str) -> list[torch.Tensor]:
    """Head means [n, n] of each layer, from a dense run with eager attention."""
    family = FAMILIES[name]
    with torch.no_grad():
        out = family.model("eager")(**family.batch(family.single()), output_attentions=True)
    return [layer[0].mean(dim=0) for layer in out.attentions]


def profile(name: str, layers: list[int] | None = None, **options: Any) -> AttentionProfile:
    family = FAMILIES[name]
    return profile_attention(family.model(), family.batch(family.single()), layers, **options)


@pytest.mark.parametrize("name", ["llava", "omni_all"])
def test_rows_and_sums_are_those_of_the_whole_matrices(name: str) -> None:
    layers = matrices(name)
    found = profile(name, [0, len(layers) - 1], alpha=0.3)
    rollout = torch.eye(len(layers[0]))
    for index, matrix in enumerate(layers):
        rollout = (0.3 * matrix + 0.7 * torch.eye(len(matrix))) @ rollout
        if index in found.layers:
            place = found.layers.index(index)
            pairs = [
                (found.last_row, matrix[-1]),
                (found.column_sums, matrix.sum(dim=0)),
                (found.rollout_last_row, rollout[-1]),
                (found.rollout_column_sums, rollout.sum(dim=0)),
            ]
            for vectors, expected in pairs:
                torch.testing.assert_close(vectors[place], expected, atol=1e-5, rtol=1e-4)
    assert found.layers == [0, len(layers) - 1]


def test_the_model_is_left_as_it_was() -> None:
    family = FAMILIES["llava"]
    model, inputs = family.model(), family.batch(family.single())
    before = {
        name: id(module.config)
        for name, module in model.named_modules()
        if hasattr(module, "config")
    }
    attach(model, FastAVConfig.for_model(model))
    profile_attention(model, inputs)
    after = {
        name: id(module.config)
        for name, module in model.named_modules()
        if hasattr(module, "config")
    }
    assert after == before
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_what_cannot_be_profiled_is_refused() -> None:
    family = FAMILIES["llava"]
    model = family.model()
    with pytest.raises(ConfigError, match=r"layers 0\.\.\d, got \[99\]"):
        profile("llava", [99])
    with pytest.raises(ConfigError, match="one prompt without padding"):
        profile_attention(model, family.batch(family.ragged()))
    with pytest.raises(UnsupportedError, match="sliding window|bidirectional"):
        profile("gemma3")
