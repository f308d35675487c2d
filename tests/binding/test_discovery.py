"""A FastAVCache that nobody announced finds its model, and only its model."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from fastav_plugin import FastAVCache, FastAVConfig, UnsupportedError, attach, detach
from tests.support.cache_names import passing
from tests.support.family_copies import omni, run
from tests.support.small_models import (
    COUNTS,
    LENGTH,
    cache,
    config,
    generate,
    global_hooks,
    prompt,
    qwen2,
    same,
    snapshot,
    tokens,
)

IDS = prompt()
NONE_LEFT = global_hooks()


@pytest.fixture(autouse=True)
def no_hook_is_left() -> Iterator[None]:
    yield
    gc.collect()
    assert global_hooks() == NONE_LEFT


@pytest.fixture(scope="module")
def expected() -> Any:
    return generate(qwen2(), IDS, cache())


def marks(*models: Any) -> int:
    """Entries in the tables in which a pending cache marks models."""
    return sum(
        len(module._forward_pre_hooks_with_kwargs) - len(module._forward_pre_hooks)
        for model in models
        for module in model.modules()
    )


def test_the_first_call_binds_and_cleans_up(expected: Any) -> None:
    model = qwen2()
    past = cache()
    assert global_hooks() != NONE_LEFT
    assert same(generate(model, IDS, past), expected)
    assert global_hooks() == NONE_LEFT
    assert marks(model) == 0
    assert past.report().tokens_per_layer == COUNTS


@pytest.mark.parametrize("positional", [False, True])
def test_a_direct_call(positional: bool, expected: Any) -> None:
    model = qwen2()
    past = cache()
    with torch.inference_mode():
        if positional:
            out = model(IDS, None, None, past, logits_to_keep=1)
        else:
            out = model(input_ids=IDS, **passing(past), logits_to_keep=1)
    assert torch.equal(out.logits[:, -1], expected.logits[0])
    assert past.report().tokens_per_layer == COUNTS


def test_the_assistant_model_runs_first() -> None:
    model, helper = qwen2(), qwen2(seed=3, num_hidden_layers=2)
    untouched = snapshot(helper)
    stock = generate(model, IDS, cache(), new=8)
    detach(model)
    past = cache()
    out = generate(model, IDS, past, new=8, assistant_model=helper)
    assert torch.equal(out.sequences, stock.sequences)
    assert past.report().tokens_per_layer == COUNTS
    assert snapshot(helper) == untouched
    assert marks(model, helper) == 0


def test_prompt_lookup_on_a_fresh_cache() -> None:
    model = qwen2()
    stock = generate(model, IDS, cache(), new=8)
    detach(model)
    past = cache()
    out = generate(model, IDS, past, new=8, prompt_lookup_num_tokens=3)
    assert torch.equal(out.sequences, stock.sequences)
    assert past.report().tokens_per_layer[:2] == [LENGTH, LENGTH]


def test_another_model_runs_in_between(expected: Any) -> None:
    model, other = qwen2(), qwen2(seed=5, num_hidden_layers=3)
    untouched = snapshot(other)
    stock = generate(other, IDS)
    past = cache()
    assert same(generate(other, IDS), stock)
    assert same(generate(model, IDS, past), expected)
    assert past.report().tokens_per_layer == COUNTS
    assert snapshot(other) == untouched


def test_another_model_with_another_cache_in_between(expected: Any) -> None:
    model, other = qwen2(), qwen2(seed=5, num_hidden_layers=6)
    first, second = cache(), FastAVCache(config(global_layer=1), tokens())
    generate(other, IDS, second)
    assert same(generate(model, IDS, first), expected)
    assert len(second) == 6
    assert len(first) == 4
    assert first.report().tokens_per_layer == COUNTS


def test_the_same_class_without_a_cache_in_between(expected: Any) -> None:
    one, two = qwen2(), qwen2()
    past = cache()
    stock = generate(two, IDS)
    assert not same(stock, expected)
    assert same(generate(one, IDS, past), expected)
    assert same(generate(two, IDS), stock)


def test_an_inner_text_model_is_not_taken_for_the_head() -> None:
    """The text model inside gets the same keywords, but later."""
    model = qwen2()
    generate(model, IDS, cache())
    found = [vars(module).get("_fastav_binding") for module in model.modules()]
    bindings = {id(binding): binding for binding in found if binding is not None}
    assert len(bindings) == 1
    assert next(iter(bindings.values())).model.head is model


def test_a_module_of_the_users_around_the_model(expected: Any) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.language = qwen2()

        def forward(self, ids: Any, past_key_values: Any) -> Any:
            out = self.language(input_ids=ids, **passing(past_key_values), logits_to_keep=1)
            return out.logits

    product = Product()
    past = cache()
    with torch.inference_mode():
        logits = product(IDS, past_key_values=past)
    assert torch.equal(logits[:, -1], expected.logits[0])
    assert past.report().tokens_per_layer == COUNTS


def test_a_cache_that_is_never_used() -> None:
    model = qwen2()
    before = snapshot(model)
    past = cache()
    stock = generate(model, IDS)
    assert marks(model) > 0
    gone = weakref.ref(past)
    del past
    gc.collect()
    assert gone() is None, "the process-wide hooks must not keep the cache alive"
    assert global_hooks() == NONE_LEFT
    assert snapshot(model) == before
    assert same(generate(model, IDS), stock)


def test_many_unused_caches_do_not_pile_up() -> None:
    for _ in range(20):
        cache()
    gc.collect()
    assert global_hooks() == NONE_LEFT


def test_a_used_cache_and_its_model_can_be_freed() -> None:
    model = qwen2()
    past = cache()
    generate(model, IDS, past)
    dead = weakref.ref(past), weakref.ref(model)
    del past, model
    gc.collect()
    assert dead[0]() is None
    assert dead[1]() is None


def test_a_cache_that_died_does_not_stay_on_the_model() -> None:
    model = qwen2()
    past = cache()
    generate(model, IDS, past)
    dead = weakref.ref(past)
    del past
    gc.collect()
    assert dead() is None, "a bound model must not keep the last request alive"


def test_reset_of_a_pending_cache_keeps_one_search() -> None:
    past = cache()
    waiting = global_hooks()
    past.reset()
    past.reset()
    assert global_hooks() == waiting


def test_a_bound_model_takes_the_next_cache(expected: Any) -> None:
    model = qwen2()
    for _ in range(3):
        past = cache()
        assert same(generate(model, IDS, past), expected)
        assert global_hooks() == NONE_LEFT
    hooks = sum(len(module._forward_pre_hooks) for module in model.modules())
    assert hooks == 2 + len(model.model.layers)


def test_an_attached_model_takes_a_cache_of_its_own(expected: Any) -> None:
    model = qwen2()
    attach(model, FastAVConfig(method="none"))
    assert same(generate(model, IDS, cache()), expected)
    detach(model)


def test_the_users_process_wide_hooks_stay() -> None:
    calls: list[str] = []
    handle = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: calls.append(type(module).__name__)
    )
    try:
        model = qwen2()
        generate(model, IDS, cache())
        assert "Qwen2ForCausalLM" in calls
        assert len(torch.nn.modules.module._global_forward_pre_hooks) == 1
    finally:
        handle.remove()


def test_the_users_hooks_on_the_model_run_as_often_as_in_a_dense_run() -> None:
    model = qwen2()
    seen: list[Any] = []
    handles = [
        model.register_forward_pre_hook(lambda m, a, k: seen.append(sorted(k)), with_kwargs=True),
        model.register_forward_hook(lambda m, a, out: seen.append(type(out).__name__)),
    ]
    generate(model, IDS, new=3)
    dense = list(seen)
    seen.clear()
    past = cache()
    generate(model, IDS, past, new=3)
    for handle in handles:
        handle.remove()
    assert len(seen) == len(dense)
    assert past.report().tokens_per_layer == COUNTS


def test_a_model_that_cannot_be_pruned_leaves_nothing_behind() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes: dict[str, Any] = {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 80}
    model: Any = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None))
    model.eval()
    before = snapshot(model)
    stock = generate(model, IDS)
    past = cache()
    with pytest.raises(UnsupportedError):
        generate(model, IDS, past)
    del past
    gc.collect()
    assert snapshot(model) == before
    assert same(generate(model, IDS), stock)


def test_after_a_refusal_the_cache_still_finds_a_good_model(expected: Any) -> None:
    past = cache()
    model = qwen2()
    model.train()
    with pytest.raises(UnsupportedError, match="eval"):
        generate(model, IDS, past)
    model.eval()
    assert same(generate(model, IDS, past), expected)


def test_omni_runs_its_towers_first() -> None:
    model, inputs = omni()
    ran: list[str] = []
    handles = [
        tower.register_forward_hook(lambda m, a, o: ran.append(type(m).__name__))
        for name, tower in model.named_modules()
        if name.split(".")[-1] in ("visual", "audio_tower")
    ]
    past = FastAVCache(config(global_rule="below 20"))
    out = run(model, inputs, past)
    assert len(set(ran)) == 2
    assert past.report().flops_ratio < 1
    assert same(run(model, inputs, FastAVCache(config(global_rule="below 20"))), out)
    for handle in handles:
        handle.remove()
    detach(model)
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert marks(model) == 0
