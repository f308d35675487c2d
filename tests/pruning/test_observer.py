"""Scores read inside attention, for sdpa, eager and flash attention, and who is told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, LayerHook, LayerView, detach
from tests.behaviour.attention.test_flash_attention import FLASHED, flashed_model
from tests.support.attentions import flash_registered
from tests.support.cases import (
    SHAPES,
    config_of,
    pruned,
    rows_of,
)
from tests.support.families import FAMILIES
from tests.support.oracle import dense_scores, held_rows, run
from tests.support.prompts import Row, special
from tests.support.small_models import cache, generate, prompt, qwen2, same

each_shape = pytest.mark.parametrize("shape", SHAPES)


@pytest.fixture(autouse=True)
def _flash() -> Iterator[None]:
    with flash_registered():
        yield


class _Listener(LayerHook):
    """Drops every fifth media token, and remembers what it was shown."""

    name = "test_listener"
    needs_scores = True

    def __init__(self) -> None:
        self.shown: dict[int, tuple[Tensor, Tensor]] = {}

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset(range(2, num_layers))

    def __call__(self, view: LayerView) -> Tensor:
        assert view.scores is not None
        self.shown[view.layer] = (view.positions, view.scores)
        return (view.positions - view.start[:, None]) % 5 != view.layer % 5


def _scores_of(name: str, attention: str, items: list[Row], **options: Any) -> tuple[Any, Any]:
    listener = _Listener()
    config = config_of(name, "none", hooks=[listener])
    family = FAMILIES[name]
    model = flashed_model(name) if attention == "flash" else family.model(attention)
    cache = FastAVCache(config, family.token_map(items))
    try:
        run(model, family.batch(items), cache, **options)
    finally:
        detach(model)
    return listener.shown, cache


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


class Recorder:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.parts: Counter[str] = Counter()
        self.open: list[str] = []

    @contextmanager
    def during(self, part: str) -> Iterator[None]:
        self.parts[part] += 1
        self.open.append(part)
        yield
        assert self.open.pop() == part


def test_parts_are_announced_and_change_nothing() -> None:
    model, recorder = qwen2(), Recorder()
    past, other = cache(), cache()
    past.fastav_request.listener = recorder
    expected = generate(model, prompt(), other)
    assert not recorder.parts
    assert same(generate(model, prompt(), past), expected)
    # The global cut on entering layer 2, the fine cut on entering layer 3 by the scores of layer 2.
    assert (recorder.parts["selection"], recorder.parts["scoring"]) == (2, 1)
    assert recorder.parts["gathering"] >= 4 and not recorder.open
    assert torch.equal(past.layers[-1].positions, other.layers[-1].positions)
    detach(model)
