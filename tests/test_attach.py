"""attach and detach: what they change, what they leave alone, and that it can all be undone."""

from typing import Any

import pytest
import torch

from fastav_plugin import (
    ConfigError,
    FastAVCache,
    FastAVConfig,
    LayerHookList,
    UnsupportedError,
    attach,
    detach,
)
from fastav_plugin.hooks import GlobalPruning
from fastav_plugin.upstream.arguments import cache_in
from tests.support.family_copies import omni, run
from tests.support.prompts import SUPPRESSED
from tests.support.small_models import cache, generate, global_hooks, prompt, qwen2, same, snapshot
from tests.support.small_models import tokens as prompt_map

IDS = prompt()


def test_attach_prunes_every_generate_and_detach_none(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    stock = run(model, inputs)
    before = snapshot(model)
    expected = run(model, inputs, FastAVCache(pruning))
    detach(model)
    assert attach(model, pruning) is model
    for _ in range(2):
        out = run(model, inputs)
        assert isinstance(cache_in(out), FastAVCache)
        assert same(out, expected)
        assert cache_in(out).report().flops_ratio < 1
    assert not same(out, stock)
    assert detach(model) is model
    assert snapshot(model) == before
    assert same(run(model, inputs), stock)
    assert snapshot(model) == before


def test_detach_twice_and_without_attach(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)
    detach(model)
    assert snapshot(model) == before
    attach(model, pruning)
    detach(model)
    detach(model)
    assert snapshot(model) == before


def test_a_binding_that_a_cache_made_is_undone_too() -> None:
    model = qwen2()
    before = snapshot(model)
    tables = global_hooks()
    stock = generate(model, IDS)
    generate(model, IDS, cache())
    assert snapshot(model) != before
    assert same(generate(model, IDS), stock), "a bound model without a FastAVCache is dense"
    detach(model)
    assert snapshot(model) == before
    assert global_hooks() == tables


def test_the_method_comes_back_as_the_class_had_it(pruning: FastAVConfig) -> None:
    model, _ = omni()
    attach(model, pruning)
    assert "generate" in vars(model)
    detach(model)
    assert "generate" not in vars(model)
    assert model.generate.__func__ is type(model).generate


def test_a_generate_taken_from_the_model_before_it_was_attached(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    stock = run(model, inputs)
    taken = model.generate
    unbound = type(model).generate
    settings: dict[str, Any] = {
        "max_new_tokens": 4,
        "do_sample": False,
        "suppress_tokens": SUPPRESSED,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    attach(model, pruning)
    expected = run(model, inputs)
    assert not same(expected, stock)
    assert same(taken(**inputs, **settings), expected)
    assert same(unbound(model, **inputs, **settings), expected)
    detach(model)
    assert same(taken(**inputs, **settings), stock)


def test_a_generate_the_user_put_on_the_instance_survives(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    calls: list[int] = []
    stock = model.generate

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return stock(*args, **kwargs)

    model.generate = counted
    attach(model, pruning)
    out = run(model, inputs)
    assert calls
    assert isinstance(cache_in(out), FastAVCache), "attach must reach the user's generate"
    detach(model)
    assert model.generate is counted


def test_attach_again_replaces_the_config(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)
    attach(model, pruning)
    attach(model, pruning.replace(method="divprune"))
    out = run(model, inputs)
    assert cache_in(out).config.method == "divprune"
    handles = sum(len(module._forward_pre_hooks) for module in model.modules())
    detach(model)
    attach(model, pruning)
    assert handles == sum(len(module._forward_pre_hooks) for module in model.modules())
    detach(model)
    assert snapshot(model) == before


def test_a_refused_attach_changes_nothing(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)
    for wrong in (
        pruning.replace(global_layer=99),
        FastAVConfig(positions="renumbered"),
    ):
        with pytest.raises(ConfigError):
            attach(model, wrong)
        assert snapshot(model) == before
    attach(model, pruning)
    attached = run(model, inputs)
    with pytest.raises(ConfigError):
        attach(model, pruning.replace(global_layer=99))
    assert same(run(model, inputs), attached), "the earlier attachment must still be in force"
    detach(model)
    assert snapshot(model) == before


@pytest.mark.parametrize("wrong", ["fastav", {"method": "fastav"}, 3])
def test_attach_takes_a_config(wrong: Any) -> None:
    model = qwen2()
    before = snapshot(model)
    with pytest.raises(ConfigError, match="FastAVConfig"):
        attach(model, wrong)
    assert snapshot(model) == before


@pytest.mark.parametrize("wrong", [None, "model", torch.nn.Linear(2, 2)])
def test_attach_takes_a_model(wrong: Any) -> None:
    with pytest.raises(UnsupportedError):
        attach(wrong)


def test_explicit_hooks() -> None:
    model = qwen2()
    hooks = LayerHookList([GlobalPruning("below 10", layer=1)])
    past = FastAVCache(FastAVConfig(hooks=hooks, min_media_tokens=1), prompt_map())
    generate(model, IDS, past)
    assert past.report().tokens_per_layer == [30, 14, 14, 14]
    assert past.report().method == "hooks"
