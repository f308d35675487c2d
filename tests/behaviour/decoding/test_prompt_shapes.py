"""Prompts of odd shapes, and answers that end early."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import pad

from fastav_plugin import FastAVCache, TokenMap, detach
from tests.support.cases import assert_close, config_of, prune, reference, rows_of
from tests.support.families import FAMILIES
from tests.support.oracle import held_rows, hidden, masked_dense, run
from tests.support.prompts import Row

PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
METHOD = "fastav+divprune"

each_family = pytest.mark.parametrize("name", FAMILIES)
each_attention = pytest.mark.parametrize("attention", ["sdpa", "eager"])
#: Omni counts positions of the token after a medium, so there has to be one.
may_end_in_media = pytest.mark.parametrize(
    "name", [name for name in FAMILIES if not name.startswith("omni")]
)


def _check(name: str, attention: str, inputs: dict[str, Any], tokens: TokenMap | None) -> None:
    model = FAMILIES[name].model(attention)
    cache = FastAVCache(config_of(name, METHOD), tokens)
    try:
        result = run(model, inputs, cache)
    finally:
        detach(model)
    held = held_rows(cache, inputs["input_ids"].shape[1])
    assert int(held[-1][0].sum()) < int(held[0].shape[1])
    assert_close(result.logits, masked_dense(model, inputs, held, result.tokens).logits)


@each_attention
@each_family
def test_one_padded_row(name: str, attention: str) -> None:
    """A batch of one that is padded all the same."""
    family = FAMILIES[name]
    items = rows_of(name, "single")
    inputs = family.batch(items)
    inputs |= {key: pad(inputs[key], (7, 0)) for key in PER_TOKEN if key in inputs}
    tokens = family.token_map(items)
    if tokens is not None:
        wide = TokenMap.from_spans(tokens.length + 7)
        tokens = TokenMap.batch([tokens, wide]).select(torch.tensor([0]))
    _check(name, attention, inputs, tokens)


@each_attention
@may_end_in_media
def test_a_prompt_that_ends_in_media(name: str, attention: str) -> None:
    """Its last token is the query, so it stays."""
    long, short, _ = rows_of(name, "ragged")
    last = max(index for index, piece in enumerate(long.pieces) if piece.kinds[0] > 1)
    for items in ([Row(long.pieces[: last + 1])], [short, Row(long.pieces[: last + 1])]):
        result = prune(name, attention, items, config_of(name, METHOD))
        assert_close(result.run.logits, reference(name, attention, items, result).logits)
        assert all(bool(mask[-1, -1]) for mask in result.held)


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2_text"])
def test_without_an_attention_mask(name: str) -> None:
    family = FAMILIES[name]
    items = rows_of(name, "level")
    inputs = family.batch(items)
    del inputs["attention_mask"]
    _check(name, "sdpa", inputs, family.token_map(items))


@each_family
def test_a_row_that_stops_early(name: str) -> None:
    """Its padding is generated along with the answers of the other batch rows."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    items = rows_of(name, "ragged")
    inputs = family.batch(items)
    first = prune(name, "sdpa", items, config_of(name, METHOD))
    stop = int(first.run.tokens[0, 2])
    result = prune(name, "sdpa", items, config_of(name, METHOD), steps=8, eos_token_id=stop)
    with hidden(model, result.held):
        expected = run(model, inputs, steps=8, eos_token_id=stop)
    assert torch.equal(result.run.tokens, expected.tokens)
    assert_close(result.run.logits, expected.logits)
