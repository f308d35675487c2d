"""Conversations in turn, each with a cache of its own: none changes the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, attach, detach
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cache_names import passing
from tests.support.cases import config_of, rows_of
from tests.support.families import FAMILIES
from tests.support.oracle import run

#: Those with M-RoPE remember on the model what the last prompt did to positions.
each_name = pytest.mark.parametrize(
    "name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "omni_interleaved", "omni_all", "llava"]
)


def longer(inputs: dict[str, Any], sequences: Tensor, words: int = 5) -> dict[str, Any]:
    """Inputs of a second turn: everything said so far, and some more words."""
    more = torch.arange(words).repeat(sequences.shape[0], 1) + 11
    ids = torch.cat([sequences, more], dim=1)
    grown = ids.shape[1] - inputs["attention_mask"].shape[1]
    later = {
        name: torch.nn.functional.pad(inputs[name], (0, grown), value=int(name == "attention_mask"))
        for name in ("attention_mask", "mm_token_type_ids")
        if name in inputs
    }
    return later | {"input_ids": ids}


class _Chat:
    """Two turns of generate() about one batch of prompts."""

    def __init__(self, name: str, shape: str, model: Any, *, attached: bool) -> None:
        self.inputs = FAMILIES[name].batch(rows_of(name, shape))
        self.model = model
        self.past: Any = None if attached else FastAVCache(config_of(name, "fastav+divprune"))

    def first(self) -> Any:
        self.turn = run(self.model, self.inputs, self.past)
        self.past = cache_in(self.turn.output)
        assert isinstance(self.past, FastAVCache)
        return self.turn

    def second(self) -> Any:
        return run(self.model, longer(self.inputs, self.turn.output.sequences), self.past)


@pytest.mark.parametrize("attached", [False, True])
@each_name
def test_a_second_turn_after_anothers_first(name: str, attached: bool) -> None:
    model = FAMILIES[name].model("sdpa")
    shapes = ("single", "ragged", "level")
    if attached:
        attach(model, config_of(name, "fastav+divprune"))
    try:
        alone = []
        for shape in shapes:
            chat = _Chat(name, shape, model, attached=attached)
            alone.append((chat.first(), chat.second()))
        chats = [_Chat(name, shape, model, attached=attached) for shape in shapes]
        for chat, expected in zip(chats, alone, strict=True):
            assert torch.equal(chat.first().logits, expected[0].logits)
        for chat, expected in zip(chats, alone, strict=True):
            assert torch.equal(chat.second().logits, expected[1].logits)
    finally:
        detach(model)
    for name_of_method in ("generate", "_prepare_position_ids_for_generation"):
        assert name_of_method not in vars(model)


@each_name
def test_direct_calls_of_two_prompts_in_turn(name: str) -> None:
    """A loop of the user's own, without position ids."""
    model = FAMILIES[name].model("sdpa")
    batches = [FAMILIES[name].batch(rows_of(name, shape)) for shape in ("single", "ragged")]

    def start(inputs: dict[str, Any]) -> tuple[Any, Tensor]:
        cache = FastAVCache(config_of(name, "fastav"))
        return cache, model(**inputs, **passing(cache)).logits[:, -1]

    def go_on(inputs: dict[str, Any], cache: Any) -> Tensor:
        rows = inputs["input_ids"].shape[0]
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 2), value=1)
        ids = torch.tensor([[12, 13]]).repeat(rows, 1)
        output = model(input_ids=ids, attention_mask=mask, **passing(cache))
        return output.logits  # type: ignore[no-any-return]

    with torch.no_grad():
        try:
            alone = [go_on(inputs, start(inputs)[0]) for inputs in batches]
            caches = [start(inputs)[0] for inputs in batches]
            for inputs, cache, expected in zip(batches, caches, alone, strict=True):
                assert torch.equal(go_on(inputs, cache), expected)
        finally:
            detach(model)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "omni_interleaved"])
def test_a_second_turn_with_beams(name: str) -> None:
    """The cache then has a batch row per beam, the prompts of the second turn one per prompt."""
    model = FAMILIES[name].model("sdpa")
    inputs = FAMILIES[name].batch(rows_of(name, "ragged"))
    other = FAMILIES[name].batch(rows_of(name, "single"))
    try:
        logits = []
        for between in (False, True):
            cache = FastAVCache(config_of(name, "fastav"))
            first = run(model, inputs, cache, num_beams=2)
            if between:
                run(model, other, FastAVCache(config_of(name, "fastav")))
            later = longer(inputs, first.output.sequences)
            logits.append(run(model, later, cache, num_beams=2).logits)
    finally:
        detach(model)
    assert torch.equal(logits[0], logits[1])
