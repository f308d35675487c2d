"""Requests joined into one batch for decoding: each gets the logits it gets alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastav_plugin import ConfigError, FastAVCache, StateError, detach
from tests.support.cache_names import passing
from tests.support.cases import METHODS, config_of
from tests.support.families import FAMILIES, KNOWN
from tests.support.prompts import Row, lengthen

TOLERANCE = 1e-5
QUICK = ("llava", "qwen2_5_vl", "omni_all", "gemma3", "qwen3_vl")


class Request:
    """One prompt with a cache of its own, decoded token by token.

    Attributes:
        length: real tokens seen so far, cut or not.
    """

    def __init__(self, name: str, row: Row, method: str, **changes: Any) -> None:
        self.model = KNOWN[name].model()
        family = KNOWN[name]
        self.cache: Any = FastAVCache(config_of(name, method, **changes), family.token_map([row]))
        output = self.model(**family.batch([row]), **passing(self.cache), use_cache=True)
        self.length = len(row)
        self.reported = self.cache.report()
        assert torch.isfinite(output.logits).all()

    def decode(self, token: int) -> Tensor:
        """Decode one token; float32 [vocabulary]."""
        self.length += 1
        logits: Tensor = step(self.model, self.cache, [token], [self.length])[0]
        return logits


def step(model: Any, cache: Any, tokens: list[int], lengths: list[int], mask: bool = True) -> Any:
    """Decode one token of each row, `lengths` rows long with it; float32 [B, vocabulary]."""
    width = cache.get_seq_length() + 1
    real = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    positions = torch.tensor(lengths)[:, None] - 1
    deltas = cache.fastav_request.facts.rope_deltas
    if deltas is not None:
        positions = (positions + deltas).expand(3, -1, -1)
    output = model(
        input_ids=torch.tensor(tokens)[:, None],
        attention_mask=real.long() if mask else None,
        position_ids=positions,
        **passing(cache),
        use_cache=True,
    )
    assert cache.get_seq_length() == width
    return output.logits[:, -1]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
    for name in FAMILIES:
        detach(KNOWN[name].model())


def requests(name: str, method: str, steps: tuple[int, ...] = (3, 0, 5, 1)) -> list[Request]:
    """Different media, none, more words; each with some tokens decoded."""
    long, short, none = KNOWN[name].rows()
    items = [short, none, long, lengthen(short, len(short) + 7)]
    made = []
    for item, count in zip(items, steps, strict=True):
        made.append(Request(name, item, method))
        for token in range(count):
            made[-1].decode(20 + token)
    return made


def together(batch: Any, alone: list[Request], tokens: list[int], mask: bool = True) -> None:
    """Every row of a joined batch gets what its request gets alone."""
    expected = torch.stack([one.decode(token) for one, token in zip(alone, tokens, strict=True)])
    found = step(alone[0].model, batch, tokens, [one.length for one in alone], mask)
    # Logits of these models reach 10; float32 rounds them in steps of a millionth.
    largest = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE * largest)


def joined(alone: list[Request]) -> Any:
    return FastAVCache.stack([copy.deepcopy(one.cache) for one in alone])


def check(name: str, method: str) -> None:
    alone = requests(name, method)
    batch = joined(alone)
    assert [batch.report(row).tokens_per_layer for row in range(4)] == [
        one.reported.tokens_per_layer for one in alone
    ]
    for round in range(3):
        together(batch, alone, [30 + round, 40 - round, 50, 60 + round], mask=round != 1)
    # The longest leaves: what it alone needed goes with it.
    rows = [3, 0, 1]
    held = sum(layer.nbytes for layer in batch.layers)
    alone = [alone[row] for row in rows]
    batch.keep_rows(torch.tensor(rows))
    assert batch.get_seq_length() == max(one.length for one in alone)
    assert sum(layer.nbytes for layer in batch.layers) < 0.75 * held
    together(batch, alone, [31, 32, 33])
    # Another joins those that are decoding.
    fresh = Request(name, KNOWN[name].rows()[0], method)
    batch = FastAVCache.stack([batch, copy.deepcopy(fresh.cache)])
    alone.append(fresh)
    together(batch, alone, [34, 35, 36, 37])
    for row, one in enumerate(alone):
        report = batch.report(row)
        assert (
            report.modality_per_layer.items()
            >= {kind: counts for kind, counts in one.reported.modality_per_layer.items()}.items()
        )
        assert report.tokens_per_layer == one.reported.tokens_per_layer
        assert (report.reason, report.flops_ratio) == (
            one.reported.reason,
            one.reported.flops_ratio,
        )
    assert (batch.report(row=None).reason is None) == (method != "none")


@pytest.mark.parametrize("name", QUICK)
def test_rows_of_a_joined_batch_get_what_they_get_alone(name: str) -> None:
    check(name, "fastav+divprune")


@pytest.mark.slow
@pytest.mark.parametrize("method", [*METHODS, "none"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_and_method_joined(name: str, method: str) -> None:
    check(name, method)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_order_of_joining_leaving_and_decoding(data: st.DataObject) -> None:
    """As a server does it: nothing that happens to neighbours changes a row."""
    name = data.draw(st.sampled_from(["qwen2_text", "qwen2_vl", "gemma3"]))
    method = data.draw(st.sampled_from([*METHODS, "none"]))
    items = list(KNOWN[name].rows())
    alone: list[Request] = []
    batch: Any = None
    with torch.no_grad():
        for _ in range(data.draw(st.integers(2, 6))):
            what = data.draw(st.sampled_from(["join", "leave", "decode"]))
            if what == "join" or batch is None:
                alone.append(Request(name, data.draw(st.sampled_from(items)), method))
                new = copy.deepcopy(alone[-1].cache)
                batch = FastAVCache.stack([new] if batch is None else [batch, new])
            elif what == "leave":
                rows = data.draw(
                    st.lists(st.sampled_from(range(len(alone))), min_size=1, unique=True)
                )
                alone = [alone[row] for row in rows]
                batch.keep_rows(torch.tensor(rows))
            together(batch, alone, [20 + row for row in range(len(alone))])
    assert batch.get_seq_length() == max(one.length for one in alone)
    assert batch.batch_size == len(alone)


def test_renumbered_rows_joined_with_words() -> None:
    """What renumbering takes off later positions is each request's own."""
    long, short, none = KNOWN["llava"].rows()
    alone = [
        Request("llava", item, "divprune", positions="renumbered") for item in (short, none, long)
    ]
    batch = joined(alone)
    together(batch, alone, [30, 40, 50])
    batch.keep_rows(torch.tensor([1, 0]))
    together(batch, [alone[1], alone[0]], [31, 41])


def test_what_cannot_be_stacked_is_refused_and_left_alone() -> None:
    one = Request("llava", KNOWN["llava"].single()[0], "fastav")
    other = Request("llava", KNOWN["llava"].single()[0], "divprune")
    foreign = Request("qwen2_text", KNOWN["qwen2_text"].single()[0], "fastav")
    with pytest.raises(StateError, match="prefilled"):
        FastAVCache.stack([one.cache, FastAVCache(one.cache.config)])
    with pytest.raises(ConfigError, match="different configs"):
        FastAVCache.stack([one.cache, other.cache])
    with pytest.raises(StateError, match="different models"):
        FastAVCache.stack([one.cache, foreign.cache])
    with pytest.raises(ConfigError, match="no cache"):
        FastAVCache.stack([])
    with pytest.raises(ConfigError, match="twice"):
        FastAVCache.stack([one.cache, one.cache])
    with pytest.raises(ConfigError, match="one batch row"):
        one.cache.keep_rows(torch.tensor([], dtype=torch.long))
    with pytest.raises(StateError, match="prefilled"):
        FastAVCache().keep_rows(torch.tensor([0]))
    one.decode(20)


def test_stacking_empties_the_caches_given() -> None:
    one = Request("llava", KNOWN["llava"].single()[0], "fastav")
    batch: Any = FastAVCache.stack([one.cache])
    assert one.cache.get_seq_length() == 0 and not one.cache.is_initialized
    twin = copy.deepcopy(batch)
    twin.keep_rows(torch.tensor([0]))
    assert twin.report().to_dict() == batch.report().to_dict()
