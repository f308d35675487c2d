"""A cache is passed and read under the names that the installed release has."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastav_plugin import UnsupportedError, attach
from fastav_plugin.upstream.arguments import (
    CACHE_NAMES,
    cache_argument,
    cache_in,
    cache_name,
    cache_of,
    output_name,
    readable_cache_names,
    with_cache,
)
from tests.support.small_models import COUNTS, cache, config, generate, prompt, qwen2


@pytest.mark.parametrize("name", readable_cache_names())
def test_generate_takes_the_cache_under_each_name_that_it_reads(name: str) -> None:
    past = cache()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        generate(qwen2(), prompt(), **{name: past})
    assert past.report().tokens_per_layer == COUNTS
    told = [item for item in caught if issubclass(item.category, FutureWarning)]
    assert bool(told) == (name != cache_name())


@pytest.mark.parametrize("name", readable_cache_names())
@pytest.mark.filterwarnings("ignore::FutureWarning")
@torch.no_grad()
def test_so_does_the_model(name: str) -> None:
    for bound in (False, True):
        model, past = qwen2(), cache()
        if bound:
            attach(model, config())
        output = model(prompt(), **{name: past})
        assert past.report().tokens_per_layer == COUNTS
        assert cache_in(output) is past


@pytest.mark.parametrize("name", [*CACHE_NAMES, "kv_store"])
@pytest.mark.parametrize("bound", [False, True])
def test_a_keyword_that_is_not_read_is_refused(name: str, bound: bool) -> None:
    if name in readable_cache_names():
        pytest.skip("the installed release reads it")
    model, past = qwen2(), cache()
    if bound:
        attach(model, config())
    with pytest.raises(UnsupportedError, match=f"`{name}`.*Pass it as `{cache_name()}`"):
        model(prompt(), **{name: past})


def test_a_dense_model_stays_as_it_was() -> None:
    model = qwen2()
    expected = generate(model, prompt())
    attach(model, config(method="none"))
    assert torch.equal(generate(model, prompt()).sequences, expected.sequences)


def test_reading_and_passing() -> None:
    past, other = object(), object()
    assert cache_argument(past) == {cache_name(): past}
    for name in CACHE_NAMES:
        assert cache_of({name: past}) is past
        assert with_cache({name: past, "x": 1}, other) == {name: other, "x": 1}
    assert cache_of({}) is None
    assert cache_of({"cache": None, "past_key_values": past}) is past
    assert with_cache({}, other) == {cache_name(): other}


def test_outputs() -> None:
    model = qwen2()
    output: Any = model(prompt(), use_cache=False)
    assert cache_in(output) is None
    assert output_name() in vars(output)
    made = generate(model, prompt())
    assert cache_in(made).get_seq_length() > 0
    with pytest.raises(UnsupportedError, match="`cache` or `past_key_values` of SimpleNamespace"):
        cache_in(SimpleNamespace(logits=None))
