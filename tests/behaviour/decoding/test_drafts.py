"""Prompt lookup and assisted decoding: the first forward already carries drafted tokens."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, attach, detach
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cases import (
    METHODS,
    Pruned,
    assert_close,
    config_of,
    keep_all_config,
    prune,
    rows_of,
)
from tests.support.checkpoints import word_tokenizer
from tests.support.families import FAMILIES, build
from tests.support.oracle import hidden, run
from tests.support.prompts import Row, special

each_family = pytest.mark.parametrize("name", FAMILIES)
each_method = pytest.mark.parametrize("method", METHODS)
STEPS = 8


def slow(*values: str) -> list[Any]:
    """Parameters of the full matrix only."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


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
    """Counts the input tokens of each forward of a model."""

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


@pytest.mark.parametrize("method", ["fastav", *slow("divprune", "fastav+divprune")])
@pytest.mark.parametrize("drafts", ["lookup", "own kind", "itself"])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "omni_interleaved", "gemma3"])
def test_drafts_on_an_attached_model(name: str, drafts: str, method: str) -> None:
    """An assistant may be the attached model itself: its own generate inside generate is pruned."""
    plain = _plain(name, "sdpa", method)
    model = FAMILIES[name].model("sdpa")
    options: dict[str, Any] = {"prompt_lookup_num_tokens": 4}
    if drafts != "lookup":
        assistant = model if drafts == "itself" else build(name, layers=2, seed=3)
        options = {"assistant_model": assistant}
    attach(model, config_of(name, method))
    try:
        for _ in range(2):
            drafted = run(model, FAMILIES[name].batch([_echoing(name)]), steps=STEPS, **options)
            cache: Any = cache_in(drafted.output)
            assert torch.equal(drafted.tokens, plain.run.tokens)
            assert [layer.num_tokens for layer in cache.layers] == plain.lengths
            assert cache.report(row=None).tokens_per_layer == plain.report.tokens_per_layer
    finally:
        detach(model)


@pytest.mark.parametrize("drafts", ["lookup", "own kind"])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "gemma3", "llama_text"])
def test_sampling_with_drafts_and_one_seed(name: str, drafts: str) -> None:
    family = FAMILIES[name]
    model = family.model("sdpa")
    options: dict[str, Any] = {"do_sample": True, "temperature": 1.5, "steps": STEPS}
    if drafts == "lookup":
        options["prompt_lookup_num_tokens"] = 4
    else:
        options["assistant_model"] = build(name, layers=2, seed=3)
    torch.manual_seed(2)
    drafted = prune(name, "sdpa", [_echoing(name)], config_of(name, "fastav+divprune"), **options)
    torch.manual_seed(2)
    with hidden(model, drafted.held):
        expected = run(model, family.batch([_echoing(name)]), **options)
    assert torch.equal(drafted.run.tokens, expected.tokens)
    assert_close(drafted.run.logits, expected.logits)


@each_method
def test_drafts_of_its_own_first_layers(method: str) -> None:
    """Early exit: the assistant is the model with fewer layers, for as long as it drafts."""
    plain = _plain("llama_text", "sdpa", method)
    settings = config_of("llama_text", method)
    item = _echoing("llama_text")
    drafted = prune("llama_text", "sdpa", [item], settings, steps=STEPS, assistant_early_exit=2)
    assert torch.equal(drafted.run.tokens, plain.run.tokens)
    assert drafted.lengths == plain.lengths


def _foreign_assistant() -> dict[str, Any]:
    """A new assistant with a vocabulary of its own; sampling with it prunes its head for good."""
    family = FAMILIES["llama_text"]
    model = family.model("sdpa")
    config = family.config()
    config.vocab_size += 7
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        assistant = type(model)(config).eval()
    assistant.generation_config = copy.deepcopy(model.generation_config)
    return {
        "assistant_model": assistant,
        "tokenizer": word_tokenizer(),
        "assistant_tokenizer": word_tokenizer(extra=7),
    }


def test_an_assistant_with_another_tokenizer() -> None:
    """Universal assisted decoding: drafts are spelled out and read again."""
    plain = _plain("llama_text", "sdpa", "fastav")
    options = _foreign_assistant()
    forwards = _Forwards(options["assistant_model"])
    settings = config_of("llama_text", "fastav")
    drafted = prune(
        "llama_text", "sdpa", [_echoing("llama_text")], settings, steps=STEPS, **options
    )
    assert forwards.rows, "the assistant never ran"
    assert torch.equal(drafted.run.tokens, plain.run.tokens)
    assert drafted.lengths == plain.lengths


def test_sampling_with_an_assistant_with_another_tokenizer() -> None:
    """transformers itself says other words each time here, so only the tokens held are compared."""
    plain = _plain("llama_text", "sdpa", "fastav")
    settings = config_of("llama_text", "fastav")
    options: dict[str, Any] = {"do_sample": True, "steps": STEPS}
    item = _echoing("llama_text")
    drafted = prune("llama_text", "sdpa", [item], settings, **options, **_foreign_assistant())
    assert drafted.run.tokens.shape == (1, STEPS)
    assert drafted.lengths == plain.lengths
    for mine, expected in zip(drafted.held, plain.held, strict=True):
        assert torch.equal(mine, expected)


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
