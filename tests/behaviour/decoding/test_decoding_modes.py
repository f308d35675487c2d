"""Beams, sampling, streaming, later turns: what generate() can do around a pruned prompt."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from fastav_plugin import FastAVCache, attach, detach
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cases import assert_close, config_of, kv_lengths, prune, pruned, rows_of, stock
from tests.support.families import FAMILIES
from tests.support.family_configs import WINDOW
from tests.support.model_types import require_repeated_prompts
from tests.support.oracle import STEPS, held_rows, hidden, run

METHOD = "fastav+divprune"

each_family = pytest.mark.parametrize("name", FAMILIES)
some_families = pytest.mark.parametrize(
    "name", ["omni_interleaved", "llava", "qwen3_vl", "gemma3", "qwen2_text"]
)
each_shape = pytest.mark.parametrize("shape", ["single", "ragged", "level"])


def _both_ways(name: str, shape: str, expansion: int, **options: Any) -> tuple[Any, Any]:
    """The same generate() pruned and masked dense: two outputs."""
    require_repeated_prompts(name)
    family = FAMILIES[name]
    model = family.model("sdpa")
    items = rows_of(name, shape)
    inputs = family.batch(items)
    torch.manual_seed(5)
    result = prune(name, "sdpa", items, config_of(name, METHOD), **options)
    held = [mask[::expansion] for mask in result.held]
    for mask, first in zip(result.held, held, strict=True):
        assert torch.equal(mask, first.repeat_interleave(expansion, dim=0))
    torch.manual_seed(5)
    with hidden(model, held):
        expected = run(model, inputs, **options)
    return result.run.output, expected.output


@pytest.mark.parametrize("beams", [2, 3])
@each_shape
@each_family
def test_beam_search(name: str, shape: str, beams: int) -> None:
    output, expected = _both_ways(name, shape, beams, num_beams=beams)
    assert torch.equal(output.sequences, expected.sequences)
    assert_close(output.sequences_scores, expected.sequences_scores)


@each_family
def test_beam_search_returns_several(name: str) -> None:
    output, expected = _both_ways(name, "ragged", 3, num_beams=3, num_return_sequences=2)
    assert output.sequences.shape[0] == 6
    assert torch.equal(output.sequences, expected.sequences)
    assert_close(output.sequences_scores, expected.sequences_scores)


@each_shape
@each_family
def test_sampling_with_one_seed(name: str, shape: str) -> None:
    output, expected = _both_ways(
        name, shape, 2, do_sample=True, num_return_sequences=2, temperature=1.5
    )
    assert torch.equal(output.sequences, expected.sequences)
    assert_close(torch.stack(output.logits), torch.stack(expected.logits))


class _Streamed(list[int]):
    """The simplest streamer."""

    def put(self, value: Tensor) -> None:
        self.extend(value.flatten().tolist())

    def end(self) -> None:
        self.append(-1)


@each_family
def test_streaming(name: str) -> None:
    said = _Streamed()
    result = prune(name, "sdpa", rows_of(name, "single"), config_of(name, METHOD), streamer=said)
    assert said == [*result.run.output.sequences[0].tolist(), -1]
    assert torch.equal(result.run.tokens, pruned(name, "sdpa", "single", METHOD).run.tokens)


@each_shape
@some_families
def test_hidden_states_and_attentions_of_the_survivors(name: str, shape: str) -> None:
    result = prune(
        name,
        "eager",
        rows_of(name, shape),
        config_of(name, METHOD),
        output_hidden_states=True,
        output_attentions=True,
        output_scores=True,
    )
    assert_close(result.run.logits, pruned(name, "eager", shape, METHOD).run.logits)
    output = result.run.output
    widths = [length - STEPS + 1 for length in result.lengths]
    for layer, width in enumerate(widths):
        assert output.attentions[0][layer].shape[2:] == (width, width)
        assert output.hidden_states[0][layer + 1].shape[1] == width
        seen = width + STEPS - 1
        if name == "gemma3" and layer % 2 == 0:
            seen = min(seen, WINDOW)
        assert output.attentions[-1][layer].shape[2:] == (1, seen)
    assert cache_in(output) is result.cache


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "omni_interleaved", "gemma3"])
def test_where_the_rows_of_hidden_states_stood(name: str, attached: bool) -> None:
    """As FastAVCache's docstring says: `positions` of the layer that made them."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    inputs = family.batch(rows_of(name, "ragged"))
    length = inputs["input_ids"].shape[1]
    wanted: dict[str, Any] = {"output_hidden_states": True, "steps": 2}
    cache: Any = None if attached else FastAVCache(config_of(name, METHOD))
    try:
        if attached:
            attach(model, config_of(name, METHOD))
        output = run(model, inputs, cache, **wanted).output
        cache = cache_in(output)
        held = held_rows(cache, length)
    finally:
        detach(model)
    with hidden(model, held):
        expected = run(model, inputs, **wanted).output
    widths = torch.tensor(cache.report(row=None).tokens_per_layer).amax(dim=0).tolist()
    for entry, layer in enumerate([0, *range(len(widths))]):
        states = output.hidden_states[0][entry]
        positions = cache.layers[layer].positions[:, : widths[layer]]
        assert states.shape[1] == widths[layer]
        columns = positions.clamp(min=0)[..., None].expand(-1, -1, states.shape[2])
        dense = expected.hidden_states[0][entry].gather(1, columns)
        assert_close(states[positions >= 0], dense[positions >= 0])


@each_shape
@each_family
def test_attached_generate_equals_an_explicit_cache(name: str, shape: str) -> None:
    family = FAMILIES[name]
    if family.given_map:
        pytest.skip("attach has no TokenMap to give; without media nothing is cut")
    model = family.model("sdpa")
    inputs = family.batch(rows_of(name, shape))
    expected = pruned(name, "sdpa", shape, METHOD)
    attach(model, config_of(name, METHOD))
    try:
        for _ in range(2):
            result = run(model, inputs)
            assert torch.equal(result.logits, expected.run.logits)
            assert torch.equal(result.tokens, expected.run.tokens)
            assert cache_in(result.output).report(row=None).tokens_per_layer == (
                expected.report.tokens_per_layer
            )
    finally:
        detach(model)
    assert torch.equal(run(model, inputs).logits, stock(name, "sdpa", shape).logits)


@each_family
def test_a_cache_of_the_callers_stays_dense(name: str) -> None:
    family = FAMILIES[name]
    model = family.model("sdpa")
    inputs = family.batch(rows_of(name, "ragged"))
    attach(model, config_of(name, METHOD))
    try:
        mine = transformers.DynamicCache(config=model.config.get_text_config(decoder=True))
        result = run(model, inputs, mine)
    finally:
        detach(model)
    expected = stock(name, "sdpa", "ragged")
    assert torch.equal(result.tokens, expected.tokens)
    assert torch.equal(result.logits, expected.logits)


def _longer(inputs: dict[str, Any], sequences: Tensor) -> dict[str, Any]:
    """Inputs of a second turn: everything said so far, and five more words."""
    batch = sequences.shape[0]
    words = torch.arange(5).repeat(batch, 1) + 11 + torch.arange(batch)[:, None]
    ids = torch.cat([sequences, words], dim=1)
    more = ids.shape[1] - inputs["input_ids"].shape[1]
    later = dict(inputs)
    later["input_ids"] = ids
    for name in ("attention_mask", "mm_token_type_ids", "token_type_ids"):
        if name in inputs:
            fill = 1 if name == "attention_mask" else 0
            later[name] = torch.nn.functional.pad(inputs[name], (0, more), value=fill)
    return {
        key: value
        for key, value in later.items()
        if key in ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
    }


@each_shape
@each_family
def test_a_second_turn_appends_text(name: str, shape: str) -> None:
    family = FAMILIES[name]
    model = family.model("sdpa")
    items = rows_of(name, shape)
    inputs = family.batch(items)
    cache = FastAVCache(config_of(name, METHOD), family.token_map(items))
    try:
        first = run(model, inputs, cache)
        held = held_rows(cache, inputs["input_ids"].shape[1])
        lengths = kv_lengths(cache)
        later = _longer(inputs, first.output.sequences)
        second = run(model, later, cache)
    finally:
        detach(model)
    # The last token said was not yet in the cache; then five words and all answers but the last.
    assert kv_lengths(cache) == [length + 1 + 5 + STEPS - 1 for length in lengths]
    held_rows(cache, inputs["input_ids"].shape[1])
    mine = transformers.DynamicCache(config=model.config.get_text_config(decoder=True))
    with hidden(model, held):
        run(model, inputs, mine, forced=first.tokens, steps=STEPS)
        expected = run(model, later, mine, forced=second.tokens)
    assert_close(second.logits, expected.logits)


@each_family
def test_a_copied_cache_is_a_prefix_to_reuse(name: str) -> None:
    """The documented pattern: prefill once, then answer from a deep copy each time."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    items = rows_of(name, "ragged")
    inputs = family.batch(items)
    try:
        prefix = FastAVCache(config_of(name, METHOD), family.token_map(items))
        first = run(model, inputs, prefix, steps=2)
        held: list[Any] = prefix.layers
        before = [layer.keys.clone() for layer in held]
        later = _longer(inputs, first.output.sequences)
        answers = [run(model, later, copy.deepcopy(prefix)) for _ in range(2)]
        for layer, keys in zip(held, before, strict=True):
            assert torch.equal(layer.keys, keys)
        direct = run(model, later, prefix)
    finally:
        detach(model)
    for answer in answers:
        assert torch.equal(answer.logits, direct.logits)
    assert kv_lengths(prefix)[0] > before[0].shape[2]


@pytest.mark.parametrize("when", ["before", "after"])
@some_families
def test_a_copied_cache_knows_its_prompt(name: str, when: str) -> None:
    """Copied before or after it met a model, a cache prunes the same way."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    items = rows_of(name, "ragged")
    cache = FastAVCache(config_of(name, METHOD), family.token_map(items))
    twin = copy.deepcopy(cache)
    try:
        if when == "after":
            run(model, family.batch(items), cache, steps=1)
        result = run(model, family.batch(items), twin)
    finally:
        detach(model)
    assert torch.equal(result.logits, pruned(name, "sdpa", "ragged", METHOD).run.logits)
