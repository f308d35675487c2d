"""Flex attention: its masks are rules over indices, which every cut changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, UnsupportedError, detach
from tests.support.attentions import FLEX, FLEXIBLE, uncompiled_flex
from tests.support.cache_names import passing
from tests.support.cases import (
    METHODS,
    SHAPES,
    assert_close,
    config_of,
    keep_all_config,
    prune,
    pruned,
    reference,
    rows_of,
)
from tests.support.families import FAMILIES, build
from tests.support.oracle import hidden, run
from tests.support.prompts import Row, special


@pytest.fixture
def _uncompiled() -> Iterator[None]:
    with uncompiled_flex():
        yield


def cases() -> list[Any]:
    """The whole matrix, of which three cases are quick enough for every run."""
    quick = {
        ("qwen2_text", "ragged", "fastav"),
        ("gemma3", "ragged", "fastav+divprune"),
        ("llava", "level", "fastav+divprune"),
    }
    return [
        pytest.param(*case, marks=[] if case in quick else pytest.mark.slow)
        for case in ((n, s, m) for n in FLEXIBLE for s in SHAPES for m in METHODS)
    ]


@pytest.mark.usefixtures("_uncompiled")
@pytest.mark.parametrize(("name", "shape", "method"), cases())
def test_flex_pruned_equals_masked_dense(name: str, shape: str, method: str) -> None:
    """Masked dense runs under sdpa: no word of the code for BlockMasks is in it."""
    items = rows_of(name, shape)
    result = prune(name, FLEX, items, config_of(name, method))
    assert_close(result.run.logits, reference(name, "sdpa", items, result).logits)
    for mine, expected in zip(result.held, pruned(name, "sdpa", shape, method).held, strict=True):
        assert torch.equal(mine, expected)


@pytest.mark.usefixtures("_uncompiled")
@pytest.mark.parametrize("how", ["none", "hooks"])
@pytest.mark.parametrize("name", ["qwen2_text", pytest.param("gemma3", marks=pytest.mark.slow)])
def test_flex_keep_all_is_bit_identical(name: str, how: str) -> None:
    items = rows_of(name, "ragged")
    model = FAMILIES[name].model(FLEX)
    detach(model)
    expected = run(model, FAMILIES[name].batch(items), steps=3)
    result = prune(name, FLEX, items, keep_all_config(name, how), steps=3)
    assert torch.equal(result.run.logits, expected.logits)


@pytest.mark.usefixtures("_uncompiled")
@pytest.mark.parametrize("name", ["qwen2_text", pytest.param("gemma3", marks=pytest.mark.slow)])
def test_flex_beams_and_later_turns(name: str) -> None:
    """Batch rows moved between beams, and several tokens decoded at once."""
    items = rows_of(name, "ragged")
    inputs = FAMILIES[name].batch(items)
    config = config_of(name, "fastav+divprune")
    flex, sdpa = FAMILIES[name].model(FLEX), FAMILIES[name].model("sdpa")
    result = prune(name, FLEX, items, config, num_beams=2, steps=3)
    detach(sdpa)
    with hidden(sdpa, [mask[::2] for mask in result.held]):
        expected = run(sdpa, inputs, num_beams=2, steps=3)
    assert torch.equal(result.run.output.sequences, expected.output.sequences)

    words = torch.arange(3 * 4).view(3, 4) + 1
    logits = []
    for model in (flex, sdpa):
        cache = FastAVCache(config, FAMILIES[name].token_map(items))
        try:
            run(model, inputs, cache, forced=result.run.tokens, steps=1)
            mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 4), value=1)
            positions = (mask.cumsum(dim=1) - 1)[:, cache.get_seq_length() :]
            with torch.no_grad():  # flex attention has no backward on a CPU
                out = model(
                    input_ids=words,
                    attention_mask=mask,
                    position_ids=positions,
                    **passing(cache),
                )
            logits.append(out.logits)
        finally:
            detach(model)
    assert_close(*logits)


@pytest.mark.usefixtures("_uncompiled")
def test_flex_drafts() -> None:
    """Scores are those of the prompt's last query, though drafted tokens follow it."""
    config = config_of("qwen2_text", "fastav")
    # A prompt with a phrase twice, so that the lookup finds drafts.
    phrase = special(*range(21, 28))
    items = [Row((phrase, *rows_of("qwen2_text", "single")[0].pieces, special(21, 22, 23)))]
    plain = prune("qwen2_text", FLEX, items, config, steps=3)
    drafted = prune("qwen2_text", FLEX, items, config, steps=3, prompt_lookup_num_tokens=3)
    assert torch.equal(plain.run.tokens, drafted.run.tokens)
    for mine, expected in zip(drafted.held, plain.held, strict=True):
        assert torch.equal(mine, expected)


def test_compiled_flex_on_a_cpu_is_refused() -> None:
    """Its kernel crashed the process on a cut mask, where the uncompiled one is right."""
    items = rows_of("qwen2_text", "single")
    model = build("qwen2_text", FLEX)
    cache = FastAVCache(config_of("qwen2_text", "fastav"), FAMILIES["qwen2_text"].token_map(items))
    with pytest.raises(UnsupportedError, match="flex_attention on a CPU"):
        run(model, FAMILIES["qwen2_text"].batch(items), cache)
    model.set_attn_implementation("sdpa")
    run(model, FAMILIES["qwen2_text"].batch(items), steps=1)
