"""Caches that the user makes stay what they are; those that cannot be pruned are refused."""

import logging
from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache

from fastav_plugin import FastAVCache, FastAVConfig, UnsupportedError, attach, detach
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cache_names import passing
from tests.support.family_copies import omni, run
from tests.support.small_models import config, generate, prompt, qwen2, same

IDS = prompt()


def test_method_none_is_bit_identical() -> None:
    model, inputs = omni()
    stock = run(model, inputs)
    attach(model, FastAVConfig(method="none"))
    out = run(model, inputs)
    assert same(out, stock)
    assert type(cache_in(out)) is DynamicCache
    assert same(run(model, inputs, FastAVCache(FastAVConfig(method="none"))), stock)


def test_a_direct_call_of_an_attached_model_is_dense(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    with torch.inference_mode():
        stock = model(**inputs).logits
        attach(model, pruning)
        assert torch.equal(model(**inputs).logits, stock)
        assert torch.equal(model(**inputs, use_cache=False).logits, stock)
        mine = DynamicCache(config=model.config.get_text_config())
        assert torch.equal(model(**inputs, **passing(mine)).logits, stock)
        assert type(mine) is DynamicCache


def two_turns(model: Any) -> list[Any]:
    """The same DynamicCache of the user over two turns."""
    past = DynamicCache(config=model.config)
    first = generate(model, IDS, past)
    longer = torch.cat([first.sequences, prompt(5, length=7)], dim=1)
    return [first, generate(model, longer, past)]


def test_a_users_dynamic_cache_is_left_alone_over_two_turns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = qwen2()
    stock = two_turns(model)
    attach(model, config(global_rule="below 5"))
    with caplog.at_level(logging.INFO, logger="fastav_plugin"):
        attached = two_turns(model)
    assert all(same(one, two) for one, two in zip(attached, stock, strict=True))
    assert cache_in(attached[1]) is cache_in(attached[0])
    assert sum("unpruned" in record.message for record in caplog.records) == 2, "each turn says so"


def test_a_users_static_cache_is_left_alone() -> None:
    model = qwen2()

    def static() -> Any:
        past = StaticCache(config=model.config, max_cache_len=64)
        return model(input_ids=IDS, **passing(past)).logits

    def generated() -> Any:
        past = StaticCache(config=model.config, max_cache_len=64)
        return generate(model, IDS, past, disable_compile=True)

    with torch.inference_mode():
        dense, stock = static(), generated()
        attach(model, config())
        assert torch.equal(static(), dense)
        assert same(generated(), stock)


@pytest.mark.parametrize("kind", ["static", "offloaded", "offloaded_static"])
def test_a_cache_that_cannot_be_pruned_is_refused_with_the_remedy(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An offloading cache makes a stream, which needs an accelerator, before anyone sees it.
    monkeypatch.setattr(torch, "Stream", object)
    model = qwen2()
    stock = generate(model, IDS)
    attach(model, config())
    with pytest.raises(UnsupportedError, match="cache_implementation.*detach|detach.*cache"):
        generate(model, IDS, cache_implementation=kind, disable_compile=True)
    detach(model)
    assert same(generate(model, IDS), stock)
