"""PaliGemma: what would break the mask of its two-way prompt is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, UnsupportedError, detach
from tests.matrix.listed import cases
from tests.support.cases import config_of
from tests.support.oracle import run

FAMILY = cases("paligemma")[0]


@pytest.fixture
def model() -> Iterator[Any]:
    found = FAMILY.model("sdpa")
    yield found
    detach(found)


def cache() -> FastAVCache:
    return FastAVCache(config_of(FAMILY.name, "divprune"))


def test_without_token_types(model: Any) -> None:
    inputs = FAMILY.batch(FAMILY.single())
    del inputs["token_type_ids"]
    with pytest.raises(UnsupportedError, match="token_type_ids"):
        run(model, inputs, cache())


def test_with_drafts(model: Any) -> None:
    inputs = FAMILY.batch(FAMILY.single())
    inputs["input_ids"][:, -2:] = inputs["input_ids"][:, :2]  # found again, so drafts follow
    with pytest.raises(UnsupportedError, match="drafts"):
        run(model, inputs, cache(), prompt_lookup_num_tokens=3)


def test_a_later_turn(model: Any) -> None:
    inputs, past = FAMILY.batch(FAMILY.single()), cache()
    first = run(model, inputs, past, steps=2)
    more = torch.cat([inputs["input_ids"], first.tokens, torch.tensor([[5, 6, 7]])], dim=1)
    turn = {"input_ids": more, "attention_mask": torch.ones_like(more)}
    with pytest.raises(UnsupportedError, match="later turn"):
        run(model, turn, past, steps=2)
