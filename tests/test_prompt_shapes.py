"""Prompts of odd shapes, answers that end early, and media in a later turn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.functional import pad

from fastav_plugin import FastAVCache, TokenMap, detach
from tests.cases import assert_close, config_of, prune, reference, rows_of
from tests.families import FAMILIES
from tests.oracle import held_rows, hidden, masked_dense, run
from tests.prompts import Row

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
    """Its padding is generated along with the other rows' answers."""
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


@each_attention
@pytest.mark.parametrize(
    "name", ["omni_all", "omni_interleaved", "llava", "llava_onevision", "gemma3"]
)
def test_media_of_a_later_turn_are_appended_whole(name: str, attention: str) -> None:
    family = FAMILIES[name]
    model = family.model(attention)
    inputs = family.batch(rows_of(name, "ragged")[:2])
    more = family.batch(rows_of(name, "single") * 2)

    def later(sequences: Tensor) -> dict[str, Any]:
        said = sequences.shape[1] - inputs["input_ids"].shape[1]
        joined = dict(more)
        for key in PER_TOKEN:
            if key in more:
                fill = 1 if key == "attention_mask" else 0
                joined[key] = torch.cat([pad(inputs[key], (0, said), value=fill), more[key]], dim=1)
        return joined | {"input_ids": torch.cat([sequences, more["input_ids"]], dim=1)}

    cache = FastAVCache(config_of(name, METHOD))
    try:
        first = run(model, inputs, cache, steps=3)
        held = held_rows(cache, inputs["input_ids"].shape[1])
        second = run(model, later(first.output.sequences), cache, steps=3)
    finally:
        detach(model)
    dense = transformers.DynamicCache(config=model.config.get_text_config(decoder=True))
    with hidden(model, held):
        run(model, inputs, dense, forced=first.tokens, steps=3)
        turn = later(first.output.sequences)
        expected = run(model, turn, dense, forced=second.tokens, steps=3)
    assert_close(second.logits, expected.logits)
