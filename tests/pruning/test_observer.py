"""Scores read inside attention, for sdpa, eager and flash attention."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, FastAVConfig, FastAVError, LayerHook, LayerView, detach
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
from tests.support.oracle import Run, dense_scores, held_rows, hidden, masked_dense, run
from tests.support.prompts import Row, special

#: Gemma's sliding layers under flash attention are refused.
FLASHED = [name for name in FAMILIES if name != "gemma3"]

each_method = pytest.mark.parametrize("method", METHODS)
each_shape = pytest.mark.parametrize("shape", SHAPES)
each_flashed = pytest.mark.parametrize("name", FLASHED)

_flash_model = functools.cache(flash_model)


@pytest.fixture(autouse=True)
def _flash() -> Iterator[None]:
    with flash_registered():
        yield


def _flash_run(name: str, items: list[Row], config: FastAVConfig, **options: Any) -> Any:
    family = FAMILIES[name]
    model = _flash_model(name)
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
    result = run(_flash_model(name), inputs)
    expected = run(FAMILIES[name].model("sdpa"), inputs, forced=result.tokens)
    assert_close(result.logits, expected.logits)


@pytest.mark.parametrize("how", ["none", "hooks", "ratios"])
@pytest.mark.parametrize("shape", ["ragged", "level"])
@each_flashed
def test_flash_keep_all_is_bit_identical(name: str, shape: str, how: str) -> None:
    items = rows_of(name, shape)
    model = _flash_model(name)
    detach(model)
    expected = run(model, FAMILIES[name].batch(items))
    result, _ = _flash_run(name, items, keep_all_config(name, how))
    assert torch.equal(result.logits, expected.logits)


@each_method
@each_shape
@each_flashed
def test_flash_pruned_equals_masked_dense(name: str, shape: str, method: str) -> None:
    items = rows_of(name, shape)
    inputs = FAMILIES[name].batch(items)
    result, cache = _flash_run(name, items, config_of(name, method))
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
    model, sdpa = _flash_model(name), FAMILIES[name].model("sdpa")
    config = config_of(name, "fastav+divprune")
    result, cache = _flash_run(name, items, config, num_beams=2)
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
        _flash_run("gemma3", items, config_of("gemma3", "fastav"))
    model = _flash_model("gemma3")
    assert run(model, FAMILIES["gemma3"].batch(items)).logits.isfinite().all()


class _Listener(LayerHook):
    """Drops every fifth media row, and remembers what it was shown."""

    name = "test_listener"
    needs_scores = True

    def __init__(self) -> None:
        self.heard: dict[int, tuple[Tensor, Tensor]] = {}

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset(range(2, num_layers))

    def __call__(self, view: LayerView) -> Tensor:
        assert view.scores is not None
        self.heard[view.layer] = (view.positions, view.scores)
        return (view.positions - view.start[:, None]) % 5 != view.layer % 5


def _scores_of(name: str, attention: str, items: list[Row], **options: Any) -> tuple[Any, Any]:
    listener = _Listener()
    config = config_of(name, "none", hooks=[listener])
    family = FAMILIES[name]
    model = _flash_model(name) if attention == "flash" else family.model(attention)
    cache = FastAVCache(config, family.token_map(items))
    try:
        run(model, family.batch(items), cache, **options)
    finally:
        detach(model)
    return listener.heard, cache


@each_shape
@pytest.mark.parametrize("attention", ["sdpa", "eager", "flash"])
@pytest.mark.parametrize("name", FAMILIES)
def test_scores_equal_eager_attention(name: str, attention: str, shape: str) -> None:
    if attention == "flash" and name not in FLASHED:
        pytest.skip("sliding layers are refused under flash attention")
    items = rows_of(name, shape)
    inputs = FAMILIES[name].batch(items)
    heard, cache = _scores_of(name, attention, items, steps=2)
    held = held_rows(cache, inputs["input_ids"].shape[1])
    eager = FAMILIES[name].model("eager")
    detach(eager)
    expected = dense_scores(eager, inputs, held)
    assert sorted(heard) == list(range(2, len(held)))
    for layer, (positions, scores) in heard.items():
        assert scores.dtype == torch.float32
        assert (scores[positions < 0] == 0).all()
        there = torch.zeros_like(expected[layer - 1])
        for row in range(scores.shape[0]):
            alive = positions[row] >= 0
            there[row, positions[row][alive]] = scores[row][alive]
        torch.testing.assert_close(there, expected[layer - 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flash"])
@pytest.mark.parametrize("name", FAMILIES)
def test_scores_do_not_see_drafts(name: str, attention: str) -> None:
    """The last query of the prompt decides, not that of a drafted token."""
    if attention == "flash" and name not in FLASHED:
        pytest.skip("sliding layers are refused under flash attention")
    phrase = special(*range(21, 28))
    long = rows_of(name, "single")[0]
    items = [Row((phrase, *long.pieces, special(21, 22, 23)))]
    plain, _ = _scores_of(name, attention, items, steps=2)
    drafted, _ = _scores_of(name, attention, items, steps=6, prompt_lookup_num_tokens=4)
    for layer, (positions, scores) in plain.items():
        more, seen = drafted[layer]
        assert more.shape[1] == positions.shape[1] + 4
        assert torch.equal(more[:, :-4], positions)
        assert (seen[:, -4:] == 0).all()
        torch.testing.assert_close(seen[:, :-4], scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["omni_all", "llava", "qwen3_vl"])
def test_another_attention_implementation_is_followed(name: str) -> None:
    """After set_attn_implementation the scores are read through the new one."""
    from tests.support.families import build

    model = build(name)
    items = rows_of(name, "ragged")
    inputs = FAMILIES[name].batch(items)
    try:
        for attention in ("sdpa", "eager", "sdpa"):
            model.set_attn_implementation(attention)
            stock = run(model, inputs)
            result = run(model, inputs, FastAVCache(config_of(name, "fastav")))
            expected = pruned(name, attention, "ragged", "fastav").run
            assert torch.equal(result.logits, expected.logits)
            assert not torch.equal(result.logits, stock.logits)
            assert torch.equal(run(model, inputs).logits, stock.logits)
    finally:
        detach(model)
