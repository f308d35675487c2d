"""Flash attention, by its stand-in: the same tokens as masked dense, and what is refused."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, FastAVConfig, FastAVError, detach
from tests.support.attentions import flash_model, flash_registered
from tests.support.cache_names import passing
from tests.support.cases import (
    METHODS,
    SHAPES,
    assert_close,
    config_of,
    keep_all_config,
    pruned,
    rows_of,
)
from tests.support.families import FAMILIES
from tests.support.model_types import require_repeated_prompts
from tests.support.oracle import Run, held_rows, hidden, masked_dense, run
from tests.support.prompts import Row

#: Gemma's sliding layers under flash attention are refused.
FLASHED = [name for name in FAMILIES if name != "gemma3"]

each_method = pytest.mark.parametrize("method", METHODS)
each_shape = pytest.mark.parametrize("shape", SHAPES)
each_flashed = pytest.mark.parametrize("name", FLASHED)

flashed_model = functools.cache(flash_model)


@pytest.fixture(autouse=True)
def _flash() -> Iterator[None]:
    with flash_registered():
        yield


def flashed_run(name: str, items: list[Row], config: FastAVConfig, **options: Any) -> Any:
    family = FAMILIES[name]
    model = flashed_model(name)
    cache = FastAVCache(config, family.token_map(items))
    try:
        return run(model, family.batch(items), cache, **options), cache
    finally:
        detach(model)


@each_shape
@each_flashed
def test_flash_stand_in_is_sound(name: str, shape: str) -> None:
    """Stock under the stand-in is stock under sdpa."""
    inputs = FAMILIES[name].batch(rows_of(name, shape))
    result = run(flashed_model(name), inputs)
    expected = run(FAMILIES[name].model("sdpa"), inputs, forced=result.tokens)
    assert_close(result.logits, expected.logits)


@pytest.mark.parametrize("how", ["none", "hooks", "ratios"])
@pytest.mark.parametrize("shape", ["ragged", "level"])
@each_flashed
def test_flash_keep_all_is_bit_identical(name: str, shape: str, how: str) -> None:
    items = rows_of(name, shape)
    model = flashed_model(name)
    detach(model)
    expected = run(model, FAMILIES[name].batch(items))
    result, _ = flashed_run(name, items, keep_all_config(name, how))
    assert torch.equal(result.logits, expected.logits)


@each_method
@each_shape
@each_flashed
def test_flash_pruned_equals_masked_dense(name: str, shape: str, method: str) -> None:
    items = rows_of(name, shape)
    inputs = FAMILIES[name].batch(items)
    result, cache = flashed_run(name, items, config_of(name, method))
    held = held_rows(cache, inputs["input_ids"].shape[1])
    model = FAMILIES[name].model("sdpa")
    detach(model)
    assert_close(result.logits, masked_dense(model, inputs, held, result.tokens).logits)
    for mine, expected in zip(held, pruned(name, "sdpa", shape, method).held, strict=True):
        assert torch.equal(mine, expected)


@each_flashed
def test_flash_later_turns_and_beams(name: str) -> None:
    """More than one appended row, and rows moved between beams."""
    require_repeated_prompts(name)
    items = rows_of(name, "ragged")
    inputs = FAMILIES[name].batch(items)
    model, sdpa = flashed_model(name), FAMILIES[name].model("sdpa")
    config = config_of(name, "fastav+divprune")
    result, cache = flashed_run(name, items, config, num_beams=2)
    held = [mask[::2] for mask in held_rows(cache, inputs["input_ids"].shape[1])]
    detach(sdpa)
    with hidden(sdpa, held):
        expected: Run = run(sdpa, inputs, num_beams=2)
    assert torch.equal(result.output.sequences, expected.output.sequences)
    assert_close(result.output.sequences_scores, expected.output.sequences_scores)

    ids = torch.arange(15).view(3, 5) + 1
    outcome = {}
    for key, head in (("flash", model), ("sdpa", sdpa)):
        cache = FastAVCache(config, FAMILIES[name].token_map(items))
        try:
            run(head, inputs, cache, forced=result.tokens, steps=1)
            mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 5), value=1)
            length = cache.get_seq_length()
            outcome[key] = head(
                input_ids=ids,
                attention_mask=mask,
                **passing(cache),
                position_ids=_later_positions(name, mask, length),
            ).logits
        finally:
            detach(head)
    assert_close(outcome["flash"], outcome["sdpa"])


def _later_positions(name: str, mask: Tensor, past: int) -> Tensor:
    positions = (mask.cumsum(dim=1) - 1)[:, past:]
    mrope = name.startswith(("omni", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"))
    return positions.expand(4, -1, -1) if mrope else positions


def test_flash_refuses_a_prompt_longer_than_a_sliding_window() -> None:
    """Its window counts indices, which a cut moves."""
    items = rows_of("gemma3", "single")
    with pytest.raises(FastAVError, match="(?i)sliding"):
        flashed_run("gemma3", items, config_of("gemma3", "fastav"))
    model = flashed_model("gemma3")
    assert run(model, FAMILIES["gemma3"].batch(items)).logits.isfinite().all()
