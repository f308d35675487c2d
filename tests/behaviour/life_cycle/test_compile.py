"""Compiled before: refused. Attached, then compiled: the same tokens."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, FastAVError, Modality, UnsupportedError, attach, detach
from fastav_plugin.model_overrides import ModelOverride
from fastav_plugin.model_overrides.registry import OVERRIDES
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cache_names import passing
from tests.support.cases import config_of
from tests.support.families import FAMILIES, build
from tests.support.small_models import (
    COUNTS,
    cache,
    config,
    generate,
    prompt,
    qwen2,
    same,
    snapshot,
    tokens,
)

IDS = prompt()


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    with warnings.catch_warnings():
        # Compilers warn about themselves; what is tested here are tokens and refusals.
        warnings.simplefilter("ignore")
        yield
    torch._dynamo.reset()


def whole(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def method(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def forward(model: Any) -> Any:
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def one_layer(model: Any) -> Any:
    model.model.layers[1].compile(backend="eager")
    return model


def layer_forward(model: Any) -> Any:
    layer = model.model.layers[1]
    layer.forward = torch.compile(layer.forward, backend="eager")
    return model


def wrapped_layer(model: Any) -> Any:
    model.model.layers[1] = torch.compile(model.model.layers[1], backend="eager")
    return model


def wrapped_text_model(model: Any) -> Any:
    model.model = torch.compile(model.model, backend="eager")
    return model


WAYS = [whole, method, forward, one_layer, layer_forward, wrapped_layer, wrapped_text_model]


@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_model_is_refused(way: Callable[[Any], Any]) -> None:
    model = qwen2()
    compiled = way(model)
    before = snapshot(model)
    with pytest.raises(UnsupportedError, match="[Aa]ttach, then compile"):
        attach(compiled, config())
    assert snapshot(model) == before
    detach(compiled)
    assert snapshot(model) == before


def call(model: Any, past: Any = None) -> Any:
    """A direct call: `torch.compile(model).generate` would run the model inside, uncompiled."""
    with torch.inference_mode():
        return model(input_ids=IDS, **passing(past), use_cache=True)


def prunes_or_raises(compiled: Any, function: Callable[..., Any]) -> bool:
    """Whether a compiled model pruned exactly; if not, it must have said why."""
    past = cache()
    try:
        out = function(compiled, past)
    except FastAVError as error:
        assert "compile" in str(error)
        return False
    assert past.report().tokens_per_layer == COUNTS
    first = out.logits[0] if isinstance(out.logits, tuple) else out.logits[:, -1]
    expected = call(qwen2(), cache()).logits[:, -1]
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-4)
    return True


@pytest.mark.parametrize("way", WAYS)
def test_a_cache_with_a_compiled_model_is_never_dense_in_silence(way: Callable[[Any], Any]) -> None:
    # A wrapper lets process-wide hooks through, so it prunes; what is compiled inside cannot.
    assert prunes_or_raises(way(qwen2()), call) == (way is whole)


@pytest.mark.parametrize("way", [method, one_layer])
def test_nor_with_a_model_compiled_and_warm(way: Callable[[Any], Any]) -> None:
    compiled = way(qwen2())
    call(compiled)
    assert not prunes_or_raises(compiled, call)


def test_generate_of_a_compiled_wrapper_prunes() -> None:
    assert prunes_or_raises(whole(qwen2()), lambda model, past: generate(model, IDS, past))


def test_a_second_instance_of_a_compiled_class_prunes() -> None:
    call(method(qwen2()))
    past = cache()
    call(qwen2(), past)
    assert past.report().tokens_per_layer == COUNTS


def test_compiled_after_detach_is_stock() -> None:
    model = qwen2()
    stock = generate(model, IDS)
    attach(model, config())
    detach(model)
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(generate(compiled, IDS).sequences, stock.sequences)


@pytest.mark.parametrize(
    "way",
    [
        whole,
        one_layer,
        pytest.param(method, marks=pytest.mark.slow),
        pytest.param(forward, marks=pytest.mark.slow),
        pytest.param(layer_forward, marks=pytest.mark.slow),
    ],
)
def test_attach_then_compile(way: Callable[[Any], Any]) -> None:
    expected = generate(qwen2(), IDS, cache(), new=3)
    model = qwen2()
    attach(model, config())
    compiled = way(model)
    past = cache()
    out = generate(compiled, IDS, past, new=3)
    assert torch.equal(out.sequences, expected.sequences)
    assert past.report().tokens_per_layer == COUNTS
    for one, two in zip(out.logits, expected.logits, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


class Placeholders(ModelOverride):
    """Qwen2 with a video token."""

    def placeholders(self, config: Any) -> dict[int, Modality]:
        return {79: Modality.VIDEO}


@pytest.mark.slow
def test_the_exchange_of_an_attached_and_compiled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cache of the user's: attach exchanges the one that generate makes."""
    monkeypatch.setitem(OVERRIDES, "qwen2", Placeholders())
    ids = IDS.clone()
    ids[0, 4:20] = 79
    settings = config(global_rule="below 10")
    expected = generate(qwen2(), ids, FastAVCache(settings), suppress_tokens=[79])
    assert cache_in(expected).report().tokens_per_layer == [30, 30, 20, 18]
    model = qwen2()
    attach(model, settings)
    model.compile(backend="eager")
    out = generate(model, ids, suppress_tokens=[79])
    assert isinstance(cache_in(out), FastAVCache)
    assert torch.equal(out.sequences, expected.sequences)


def test_two_prompts_of_different_length_through_one_compiled_model() -> None:
    model = qwen2()
    attach(model, config())
    compiled = torch.compile(model, backend="eager")
    longer = torch.cat([IDS, prompt(4, length=6)], dim=1)
    for ids in (IDS, longer, IDS):
        maps = tokens().extend(ids.shape[1] - IDS.shape[1])
        expected = generate(qwen2(), ids, FastAVCache(config(), maps))
        out = generate(compiled, ids, FastAVCache(config(), maps))
        assert torch.equal(out.sequences, expected.sequences)


def test_inductor() -> None:
    expected = generate(qwen2(), IDS, cache(), new=3)
    model = qwen2()
    attach(model, config())
    model.model.layers[3].mlp.compile()
    past = cache()
    try:
        out = generate(model, IDS, past, new=3)
    except Exception as error:
        if "compiler" in str(error).lower():
            pytest.skip(f"no C++ compiler for inductor: {error}")
        raise
    assert torch.equal(out.sequences, expected.sequences)
    assert past.report().tokens_per_layer == COUNTS


def test_compiled_sub_modules_below_the_hooks_need_no_refusal_after_attach() -> None:
    model = qwen2()
    attach(model, config())
    model.model.layers[0].mlp.compile(backend="eager")
    assert same(generate(model, IDS, cache()), generate(qwen2(), IDS, cache()))


def test_a_compiled_generate_is_never_dense_in_silence() -> None:
    """Its frames are not those of generate(), by which an attached model knows its own caches."""
    family = FAMILIES["llava"]
    inputs = family.batch(family.single())
    model = build("llava")
    attach(model, config_of("llava", "fastav"))
    compiled: Any = torch.compile(model.generate, backend="eager")
    with pytest.raises(FastAVError, match="compiled generate"):
        compiled(**inputs, max_new_tokens=2, do_sample=False)
    assert model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[1] > 2
