"""Every family, attention implementation, batch and method against the stock model."""

from __future__ import annotations

import pytest
import torch

from fastav_plugin import FastAVCache, attach, detach
from tests.support.cases import (
    ATTENTIONS,
    METHODS,
    SHAPES,
    assert_close,
    config_of,
    keep_all_config,
    prune,
    pruned,
    reference,
    rows_of,
    stock,
)
from tests.support.families import FAMILIES
from tests.support.oracle import STEPS, run

each_family = pytest.mark.parametrize("name", FAMILIES)
each_attention = pytest.mark.parametrize("attention", ATTENTIONS)
each_shape = pytest.mark.parametrize("shape", SHAPES)
each_method = pytest.mark.parametrize("method", METHODS)


@pytest.mark.parametrize("how", ["none", "hooks", "ratios"])
@pytest.mark.parametrize("shape", ["single", "ragged", "level"])
@each_attention
@each_family
def test_keep_all_is_bit_identical(name: str, attention: str, shape: str, how: str) -> None:
    kept = prune(name, attention, rows_of(name, shape), keep_all_config(name, how))
    expected = stock(name, attention, shape)
    assert torch.equal(kept.run.tokens, expected.tokens)
    assert torch.equal(kept.run.logits, expected.logits)
    assert set(kept.lengths) == {kept.held[0].shape[1] + STEPS - 1}


@each_method
@each_shape
@each_attention
@each_family
def test_pruned_equals_masked_dense(name: str, attention: str, shape: str, method: str) -> None:
    result = pruned(name, attention, shape, method)
    expected = reference(name, attention, rows_of(name, shape), result)
    assert result.run.logits.shape[0] == STEPS
    assert_close(result.run.logits, expected.logits)


@each_method
@each_family
def test_the_matrix_would_notice_dense(name: str, method: str) -> None:
    """The first batch row of each case loses so much that a dense answer is far off."""
    first = pruned(name, "sdpa", "ragged", method).run.logits[0, 0]
    dense = stock(name, "sdpa", "ragged").logits[0, 0]
    assert (first - dense).abs().max() > 0.05


@each_method
@each_attention
@each_family
def test_row_alone_equals_row_in_batch(name: str, attention: str, method: str) -> None:
    for shape in ("ragged", "level", "lopsided") if attention == "sdpa" else ("ragged",):
        together = pruned(name, attention, shape, method)
        for index, item in enumerate(rows_of(name, shape)):
            tokens = together.run.tokens[index : index + 1]
            alone = prune(name, attention, [item], config_of(name, method), forced=tokens)
            assert_close(together.run.logits[:, index : index + 1], alone.run.logits)
            for layer, mine in zip(together.held, alone.held, strict=True):
                assert layer[index, -len(item) :].tolist() == mine[0].tolist()


@pytest.mark.parametrize("shape", ["single", "ragged"])
@each_family
def test_a_bound_model_without_the_cache_is_stock(name: str, shape: str) -> None:
    """Bound by an earlier request, or attached with method "none": not one bit differs."""
    family = FAMILIES[name]
    expected = stock(name, "sdpa", shape)
    model = family.model("sdpa")
    rows = rows_of(name, shape)
    inputs = family.batch(rows)
    try:
        run(model, inputs, FastAVCache(config_of(name, "fastav"), family.token_map(rows)), steps=2)
        assert torch.equal(run(model, inputs).logits, expected.logits)
        attach(model, config_of(name, "none"))
        assert torch.equal(run(model, inputs).logits, expected.logits)
    finally:
        detach(model)
    assert torch.equal(run(model, inputs).logits, expected.logits)
