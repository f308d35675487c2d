"""The model called directly, with other kinds of input, and in half precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, FastAVError, detach
from tests.support.cache_names import passing
from tests.support.cases import (
    METHODS,
    assert_close,
    config_of,
    keep_all_config,
    kv_lengths,
    prune,
    pruned,
    rows_of,
)
from tests.support.families import FAMILIES, build
from tests.support.oracle import STEPS, held_rows, hidden, run

each_family = pytest.mark.parametrize("name", FAMILIES)
each_shape = pytest.mark.parametrize("shape", ["single", "ragged"])


@each_shape
@each_family
@torch.no_grad()
def test_a_direct_call_prunes_as_generate_does(name: str, shape: str) -> None:
    """Its logits are those of the survivors, with and without `logits_to_keep`."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    items = rows_of(name, shape)
    inputs = family.batch(items)
    for keep in (0, 1):
        options = {"logits_to_keep": keep} if keep else {}
        cache = FastAVCache(config_of(name, "divprune"), family.token_map(items))
        try:
            output = model(**inputs, **passing(cache), use_cache=True, **options)
        finally:
            detach(model)
        lengths = kv_lengths(cache)
        assert lengths[-1] < len(items[0])
        if name.startswith("omni"):
            keep = 0  # has no `logits_to_keep`
        assert output.logits.shape[1] == (keep or lengths[-1])
        with hidden(model, held_rows(cache, inputs["input_ids"].shape[1])):
            expected = model(**inputs, use_cache=True)
        assert_close(output.logits[:, -1], expected.logits[:, -1])


@pytest.mark.parametrize("method", METHODS)
@each_shape
@pytest.mark.parametrize("name", ["qwen2_text", "llama_text"])
def test_prompts_given_as_embeddings(name: str, shape: str, method: str) -> None:
    """Ids are nowhere to be seen; the caller's TokenMap says what is what."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    items = rows_of(name, shape)
    inputs = family.batch(items)
    embeds = model.get_input_embeddings()(inputs["input_ids"]).detach()
    cache = FastAVCache(config_of(name, method), family.token_map(items))
    try:
        output: Any = model.generate(
            inputs_embeds=embeds,
            attention_mask=inputs["attention_mask"],
            **passing(cache),
            max_new_tokens=STEPS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            suppress_tokens=[0, *range(80, 99)],
        )
    finally:
        detach(model)
    expected = pruned(name, "sdpa", shape, method)
    assert torch.equal(output.sequences, expected.run.tokens)
    assert torch.equal(torch.stack(output.logits), expected.run.logits)


@pytest.mark.parametrize("how", ["hooks", "ratios"])
@each_shape
@each_family
def test_keep_all_in_bfloat16(name: str, shape: str, how: str) -> None:
    family = FAMILIES[name]
    model = build(name).to(torch.bfloat16)
    items = rows_of(name, shape)
    inputs = family.batch(items)
    expected = run(model, inputs, steps=3)
    cache = FastAVCache(keep_all_config(name, how), family.token_map(items))
    result = run(model, inputs, cache, steps=3)
    assert torch.equal(result.logits, expected.logits)


@pytest.mark.parametrize("layer", [1, 2, 4, 5])
@pytest.mark.parametrize("name", ["omni_all", "llava", "gemma3"])
def test_the_global_cut_where_asked(name: str, layer: int) -> None:
    items = rows_of(name, "ragged")
    result = prune(name, "sdpa", items, config_of(name, "fastav", global_layer=layer))
    widths = [int(mask[0].sum()) for mask in result.held]
    assert widths[:layer] == [len(items[0])] * layer
    assert sorted(widths, reverse=True) == widths
    assert len(set(widths[layer - 1 :])) == len(widths) - layer + 1


def test_a_cut_among_deepstack_layers_is_refused() -> None:
    items = rows_of("qwen3_vl", "single")
    with pytest.raises(FastAVError, match="layer 1"):
        prune("qwen3_vl", "sdpa", items, config_of("qwen3_vl", "fastav", global_layer=1))
    result = prune("qwen3_vl", "sdpa", items, config_of("qwen3_vl", "fastav"))
    assert torch.equal(result.run.logits, pruned("qwen3_vl", "sdpa", "single", "fastav").run.logits)


def test_right_padding_is_refused() -> None:
    family = FAMILIES["llava"]
    model = family.model("sdpa")
    inputs = family.batch(rows_of("llava", "ragged"))
    flipped = dict(inputs)
    for row, mask in enumerate(inputs["attention_mask"]):
        pads = int((mask == 0).sum())
        for name in ("input_ids", "attention_mask"):
            flipped[name] = flipped[name].clone()
            flipped[name][row] = inputs[name][row].roll(-pads)
    try:
        with pytest.raises(FastAVError, match="padding_side='left'"):
            run(model, flipped, FastAVCache(config_of("llava", "fastav")))
        assert run(model, inputs, steps=1).logits.isfinite().all()
    finally:
        detach(model)
