"""Prompt lookup and assisted decoding: the first forward already carries drafted tokens."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, detach
from tests.cases import METHODS, Pruned, assert_close, config_of, keep_all_config, prune, rows_of
from tests.families import FAMILIES, build
from tests.oracle import run
from tests.prompts import Row, special

each_family = pytest.mark.parametrize("name", FAMILIES)
each_method = pytest.mark.parametrize("method", METHODS)
STEPS = 8


def _echoing(name: str) -> Row:
    """A prompt whose end stood in it before, so that prompt lookup drafts at once."""
    phrase = [21, 22, 23, 24, 25, 26, 27]
    long = rows_of(name, "single")[0]
    return Row((special(*phrase), *long.pieces, special(*phrase[:3])))


@functools.cache
def _plain(name: str, attention: str, method: str) -> Pruned:
    return prune(name, attention, [_echoing(name)], config_of(name, method), steps=STEPS)


def _widths(result: Pruned) -> list[int]:
    return [int(mask.sum()) for mask in result.held]


class _Forwards:
    """Counts the rows of each forward of a model."""

    def __init__(self, model: Any) -> None:
        self.rows: list[int] = []
        self.handle = model.get_input_embeddings().register_forward_hook(self._note)

    def _note(self, module: Any, args: Any, output: Any) -> None:
        self.rows.append(args[0].shape[1])


@each_method
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@each_family
def test_prompt_lookup_picks_and_says_the_same(name: str, attention: str, method: str) -> None:
    plain = _plain(name, attention, method)
    forwards = _Forwards(FAMILIES[name].model(attention))
    try:
        drafted = prune(
            name,
            attention,
            [_echoing(name)],
            config_of(name, method),
            steps=STEPS,
            prompt_lookup_num_tokens=4,
        )
    finally:
        forwards.handle.remove()
    assert forwards.rows[0] == len(_echoing(name)) + 4, "the first forward must carry drafts"
    assert torch.equal(drafted.run.tokens, plain.run.tokens)
    for mine, expected in zip(drafted.held, plain.held, strict=True):
        assert torch.equal(mine, expected)
    assert drafted.lengths == plain.lengths
    assert_close(drafted.run.logits, plain.run.logits)


@pytest.mark.parametrize("how", ["none", "hooks", "ratios"])
@each_family
def test_prompt_lookup_that_keeps_all_is_bit_identical(name: str, how: str) -> None:
    family = FAMILIES[name]
    model = family.model("sdpa")
    item = _echoing(name)
    detach(model)
    options: dict[str, Any] = {"steps": STEPS, "prompt_lookup_num_tokens": 4}
    expected = run(model, family.batch([item]), **options)
    kept = prune(name, "sdpa", [item], keep_all_config(name, how), **options)
    assert torch.equal(kept.run.tokens, expected.tokens)
    assert torch.equal(kept.run.logits, expected.logits)


def _assisted(name: str, assistant: Any, method: str, **options: Any) -> None:
    plain = _plain(name, "sdpa", method)
    forwards = _Forwards(assistant)
    try:
        drafted = prune(
            name,
            "sdpa",
            [_echoing(name)],
            config_of(name, method),
            steps=STEPS,
            assistant_model=assistant,
            **options,
        )
    finally:
        forwards.handle.remove()
    assert forwards.rows, "the assistant never ran"
    assert torch.equal(drafted.run.tokens, plain.run.tokens)
    for mine, expected in zip(drafted.held, plain.held, strict=True):
        assert torch.equal(mine, expected)
    assert drafted.lengths == plain.lengths


@each_method
@pytest.mark.parametrize("name", ["qwen2_text", "llama_text"])
def test_assisted_by_a_small_model(name: str, method: str) -> None:
    assistant = build("llama_text", layers=2, seed=3)
    _assisted(name, assistant, method)


@each_method
@pytest.mark.parametrize("name", ["llama_text", "llava", "omni_image", "qwen2_5_vl"])
def test_assisted_by_its_own_kind(name: str, method: str) -> None:
    """The assistant is of the same class, so nothing but identity tells whose cache it is."""
    _assisted(name, build(name, layers=2, seed=3), method)


def test_the_assistant_is_not_bound() -> None:
    family = FAMILIES["llama_text"]
    assistant = build("llama_text", layers=2, seed=3)
    model = family.model("sdpa")
    item = _echoing("llama_text")
    cache = FastAVCache(config_of("llama_text", "fastav"), family.token_map([item]))
    try:
        run(model, family.batch([item]), cache, assistant_model=assistant, steps=STEPS)
        assert not assistant._forward_pre_hooks
        assert not any(layer._forward_pre_hooks for layer in assistant.model.layers)
    finally:
        detach(model)
