"""Many turns: new media is pruned by the same rules, what is held stays, positions continue."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, detach
from tests.support.attentions import FLEX, flash_model, flash_registered, uncompiled_flex
from tests.support.cases import METHODS, assert_close, config_of, keep_all_config
from tests.support.families import FAMILIES
from tests.support.oracle import STEPS, held_rows
from tests.support.prompts import Row, row, words
from tests.support.turns import conversation, masked_talk, talk, turns_of

each_family = pytest.mark.parametrize("name", FAMILIES)
each_method = pytest.mark.parametrize("method", METHODS)
#: Families that differ most.
FEW = ("omni_all", "llava", "qwen3_vl", "gemma3", "qwen2_text")

each_shape = pytest.mark.parametrize("shape", ["single", "ragged"])


#: Every family composed, and a few of them under each method; the rest is slow.
each_case = pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param(
            name,
            method,
            marks=() if method == "fastav+divprune" or name in FEW else pytest.mark.slow,
        )
        for name in FAMILIES
        for method in METHODS
    ],
)


def assert_masked_dense(name: str, model: Any, cache: FastAVCache, turns: list[list[Row]]) -> None:
    """Talk with the cache, and say the same with the stock model."""
    try:
        mine = talk(name, model, cache, turns)
    finally:
        detach(model)
    held = held_rows(cache, conversation(turns))
    masked = masked_talk(name, model, held, turns, [turn.tokens for turn in mine])
    for turn, expected in zip(mine, masked, strict=True):
        assert_close(turn.logits, expected.logits)


@each_shape
@pytest.mark.parametrize("attention", ["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
@each_case
def test_both_turns_equal_masked_dense(name: str, attention: str, shape: str, method: str) -> None:
    turns = turns_of(name, shape)
    cache = FastAVCache(config_of(name, method))
    assert_masked_dense(name, FAMILIES[name].model(attention), cache, turns)
    first = sum(len(item) for item in turns[0])
    later = [int(layer.sum()) for layer in held_rows(cache, conversation(turns))]
    assert later[-1] < first + sum(len(item) for item in turns[1])
    report = cache.report(row=None)
    kinds = {kind for rows in turns for item in rows for kind in item.kinds}
    assert {kind.upper() for kind in report.modality_per_layer} == {kind.name for kind in kinds}
    assert report.token_map.length == conversation(turns)
    assert report.flops_ratio < 1


@each_method
@each_shape
@pytest.mark.parametrize("name", ["omni_all", "llava", "qwen3_vl"])
def test_under_flash_attention(name: str, shape: str, method: str) -> None:
    """The stand-in takes 2-D masks over what each layer holds, and says what sdpa does."""
    turns = turns_of(name, shape)
    cache = FastAVCache(config_of(name, method))
    with flash_registered():
        mine = talk(name, flash_model(name), cache, turns)
    held = held_rows(cache, conversation(turns))
    stock = FAMILIES[name].model()
    masked = masked_talk(name, stock, held, turns, [turn.tokens for turn in mine])
    for turn, expected in zip(mine, masked, strict=True):
        assert_close(turn.logits, expected.logits)


@each_method
@pytest.mark.parametrize("attention", ["sdpa", "flash"])
@pytest.mark.parametrize("ended", ["words between", "early"])
@pytest.mark.parametrize("name", ["omni_all", "llava", "qwen2_text"])
def test_padding_amid_the_conversation(name: str, ended: str, attention: str, method: str) -> None:
    """A turn of words of two lengths, and an answer that the next turn's mask cuts short."""
    long, short, _ = FAMILIES[name].rows()
    between = [row(words(31, 9)), row(words(32, 3))]
    turns = [[long, short], [short, long]]
    if ended == "words between":
        turns.insert(1, between)
    early = {1: 2} if ended == "early" else {}
    cache = FastAVCache(config_of(name, method))
    with flash_registered() if attention == "flash" else nullcontext():
        model = flash_model(name) if attention == "flash" else FAMILIES[name].model()
        try:
            mine = talk(name, model, cache, turns, early=early)
        finally:
            detach(model)
    held = held_rows(cache, conversation(turns))
    said = [turn.tokens for turn in mine]
    masked = masked_talk(name, FAMILIES[name].model(), held, turns, said, early=early)
    # While it was said, the end of the answer was there.
    assert_close(mine[-1].logits, masked[-1].logits)


@pytest.mark.parametrize(
    ("name", "shape", "method"),
    [
        ("gemma3", "ragged", "fastav+divprune"),
        *(
            pytest.param(name, shape, method, marks=pytest.mark.slow)
            for name in ("llava", "gemma3")
            for shape in ("single", "ragged")
            for method in METHODS
        ),
    ],
)
def test_under_flex_attention(name: str, shape: str, method: str) -> None:
    """A BlockMask from the tokens of a turn to what each layer holds of the earlier ones."""
    turns = turns_of(name, shape)
    cache = FastAVCache(config_of(name, method))
    with uncompiled_flex():
        mine = talk(name, FAMILIES[name].model(FLEX), cache, turns)
    detach(FAMILIES[name].model(FLEX))
    held = held_rows(cache, conversation(turns))
    stock = FAMILIES[name].model()
    masked = masked_talk(name, stock, held, turns, [turn.tokens for turn in mine])
    for turn, expected in zip(mine, masked, strict=True):
        assert_close(turn.logits, expected.logits)


@pytest.mark.parametrize("how", ["hooks", pytest.param("ratios", marks=pytest.mark.slow)])
@each_shape
@each_family
def test_keep_all_is_stock_in_both_turns(name: str, shape: str, how: str) -> None:
    turns = turns_of(name, shape)
    model = FAMILIES[name].model()
    try:
        mine = talk(name, model, FastAVCache(keep_all_config(name, how)), turns)
    finally:
        detach(model)
    for turn, stock in zip(mine, talk(name, model, None, turns), strict=True):
        assert torch.equal(turn.logits, stock.logits)


@each_case
def test_media_words_media(name: str, method: str) -> None:
    """Three turns; the one of words cuts nothing, and the next one cuts again."""
    long, short, _ = FAMILIES[name].rows()
    cache = FastAVCache(config_of(name, method))
    turns = [[long], [row(words(31, 9))], [short]]
    assert_masked_dense(name, FAMILIES[name].model(), cache, turns)
    start = len(long) + STEPS
    assert all(
        set(range(start, start + 9)) <= set(cache.report().kept_positions(layer, "text"))
        for layer in range(len(cache.layers))
    )


@each_case
def test_media_after_a_prefix_of_words(name: str, method: str) -> None:
    """A system prompt that many requests share: nothing to cut in it, and all after it."""
    long, _, _ = FAMILIES[name].rows()
    cache = FastAVCache(config_of(name, method))
    assert_masked_dense(name, FAMILIES[name].model(), cache, [[row(words(31, 9))], [long]])
    report = cache.report()
    assert report.reason is None
    assert report.flops_ratio < 1


@each_case
def test_a_question_about_earlier_media(name: str, method: str) -> None:
    """A text-only turn: nothing is cut, and each layer answers from what it holds."""
    long, _, _ = FAMILIES[name].rows()
    cache = FastAVCache(config_of(name, method))
    model = FAMILIES[name].model()
    talk(name, model, cache, [[long]])
    before = [layer.positions for layer in cache.fastav_request.layers]
    detach(model)
    cache = FastAVCache(config_of(name, method))
    assert_masked_dense(name, model, cache, [[long], [row(words(31, 9))]])
    for layer, held in zip(cache.fastav_request.layers, before, strict=True):
        assert torch.equal(layer.positions[:, : held.shape[1]], held)
        assert layer.num_tokens == held.shape[1] + 1 + 9 + STEPS - 1
