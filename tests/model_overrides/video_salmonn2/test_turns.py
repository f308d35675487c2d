"""Later turns that bring clips of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, detach
from tests.model_overrides.video_salmonn2.families import FAMILIES
from tests.support.cases import METHODS, assert_close, config_of, keep_all_config
from tests.support.oracle import STEPS, held_rows, run
from tests.support.prompts import Row
from tests.support.turns import later_inputs, masked_talk, talk

each_family = pytest.mark.parametrize("name", FAMILIES)
each_shape = pytest.mark.parametrize("shape", ["single", "ragged"])


def turns_of(name: str, shape: str) -> list[list[Row]]:
    long, short, none = FAMILIES[name].rows()
    if shape == "single":
        return [[long], [short]]
    return [[long, short, none], [short, none, long]]


@pytest.mark.parametrize("method", METHODS)
@each_shape
@each_family
def test_both_turns_equal_masked_dense(name: str, shape: str, method: str) -> None:
    turns, model = turns_of(name, shape), FAMILIES[name].model()
    cache = FastAVCache(config_of(name, method))
    try:
        mine = talk(name, model, cache, turns)
    finally:
        detach(model)
    length = sum(max(map(len, rows)) for rows in turns) + STEPS
    held = held_rows(cache, length)
    said = [turn.tokens for turn in mine]
    for turn, expected in zip(mine, masked_talk(name, model, held, turns, said), strict=True):
        assert_close(turn.logits, expected.logits)
    assert int(held[-1].sum()) < sum(len(item) for rows in turns for item in rows)


@each_shape
@each_family
def test_keep_all_is_stock(name: str, shape: str) -> None:
    turns, model = turns_of(name, shape), FAMILIES[name].model()
    try:
        mine = talk(name, model, FastAVCache(keep_all_config(name, "hooks")), turns)
    finally:
        detach(model)
    for turn, stock in zip(mine, talk(name, model, None, turns), strict=True):
        assert torch.equal(turn.logits, stock.logits)


@each_family
def test_a_later_clip_is_seen_as_if_all_came_at_once(name: str) -> None:
    """Dense: the second turn's logits are those of one prompt with both clips in it."""
    turns, model = turns_of(name, "single"), FAMILIES[name].model()
    first, second = talk(name, model, None, turns)
    family = FAMILIES[name]
    before, now = family.batch(turns[0]), family.batch(turns[1])
    whole: dict[str, Any] = later_inputs(name, before, first.tokens, turns[1])
    for key in set(now) - {"input_ids", "attention_mask", "frame_ids"}:
        whole[key] = torch.cat([before[key], now[key]])
    whole.pop("frame_ids", None)
    together = run(model, whole, forced=second.tokens)
    assert_close(second.logits, together.logits)
