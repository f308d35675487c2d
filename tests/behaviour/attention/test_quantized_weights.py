"""int8 weights of torchao on a CPU: the model's own affair, so pruning is as right as without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, attach, detach
from tests.support.cases import assert_close, config_of, keep_all_config, rows_of
from tests.support.families import FAMILIES, build
from tests.support.family_configs import hub
from tests.support.oracle import held_rows, masked_dense, run

torchao = pytest.importorskip("torchao.quantization")

NAME = "qwen2_text"


def quantized(how: str, folder: Path) -> Any:
    """A model with int8 weights: after loading, or while it is loaded."""
    model = build(NAME)
    weights = torchao.Int8WeightOnlyConfig()
    if how == "quantize_":
        torchao.quantize_(model, weights)
        return model
    model.save_pretrained(folder)
    settings = hub.TorchAoConfig(weights)
    loaded = type(model).from_pretrained(folder, quantization_config=settings, dtype=torch.float32)
    loaded.generation_config = model.generation_config
    return loaded.eval()


@pytest.mark.parametrize("how", ["quantize_", "TorchAoConfig"])
def test_int8_weights(how: str, tmp_path: Path) -> None:
    model = quantized(how, tmp_path)
    assert type(model.model.layers[0].mlp.up_proj.weight) is not torch.nn.Parameter
    items = rows_of(NAME, "ragged")
    inputs = FAMILIES[NAME].batch(items)
    stock = run(model, inputs)
    float_model = run(build(NAME), inputs, forced=stock.tokens)
    assert (stock.logits - float_model.logits).abs().max() > 1e-3, "nothing was quantized"

    cache = FastAVCache(keep_all_config(NAME, "hooks"), FAMILIES[NAME].token_map(items))
    assert torch.equal(run(model, inputs, cache).logits, stock.logits)
    detach(model)

    config = config_of(NAME, "fastav+divprune")
    attach(model, config)
    cache = FastAVCache(config, FAMILIES[NAME].token_map(items))
    result = run(model, inputs, cache)
    held = held_rows(cache, inputs["input_ids"].shape[1])
    assert int(held[-1][0].sum()) < int(held[0][0].sum()) < len(items[0])
    detach(model)
    assert_close(result.logits, masked_dense(model, inputs, held, result.tokens).logits)
    assert torch.equal(run(model, inputs).logits, stock.logits)
