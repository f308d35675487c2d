"""Attached models that are copied, saved, wrapped or dispatched."""

import copy
import importlib.util
from typing import Any

import pytest
import torch

from fastav_plugin import (
    FastAVCache,
    FastAVConfig,
    attach,
    detach,
)
from tests.life_cycle.media import omni, run
from tests.life_cycle.models import (
    cache,
    config,
    generate,
    prompt,
    qwen2,
    same,
    snapshot,
)


def test_a_deep_copy_of_an_attached_model(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    stock = run(model, inputs)
    before = snapshot(model)
    attach(model, pruning)
    expected = run(model, inputs)
    twin = copy.deepcopy(model)
    assert same(run(model, inputs), expected)
    out = run(twin, inputs)
    assert same(out, expected) or same(out, stock), "neither pruned like the original nor dense"
    assert same(run(twin, inputs, FastAVCache(pruning)), expected)
    detach(twin)
    assert not any(module._forward_pre_hooks for module in twin.modules())
    assert same(run(twin, inputs), stock)
    assert same(run(model, inputs), expected), "detaching the copy must not touch the original"
    attach(twin, pruning)
    detach(model)
    assert snapshot(model) == before
    assert same(run(model, inputs), stock)
    assert same(run(twin, inputs), expected)


def test_saving_an_attached_model_saves_a_stock_one(tmp_path: Any) -> None:
    model = qwen2()
    generate(model, prompt(), cache())
    attach(model, config())
    model.save_pretrained(tmp_path)
    assert "fastav" not in (tmp_path / "config.json").read_text().lower()
    again = type(model).from_pretrained(tmp_path).eval()
    again.generation_config = model.generation_config
    assert same(generate(again, prompt()), generate(qwen2(), prompt()))


# PEFT reads a name that transformers has deprecated.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
def test_a_model_wrapped_by_peft(pruning: FastAVConfig) -> None:
    import peft

    model, inputs = omni()
    expected = run(model, inputs, FastAVCache(pruning))
    detach(model)
    settings = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=True)
    wrapped = peft.get_peft_model(model, settings).eval()
    attach(wrapped, pruning)
    assert same(run(wrapped, inputs), expected)
    detach(wrapped)
    assert FastAVConfig.for_model(wrapped).method == "fastav"


@pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"
)
def test_a_model_dispatched_by_accelerate(pruning: FastAVConfig) -> None:
    import accelerate

    model, inputs = omni()
    expected = run(model, inputs, FastAVCache(pruning))
    detach(model)
    model = accelerate.dispatch_model(model, {"": "cpu"}, force_hooks=True)
    attach(model, pruning)
    assert same(run(model, inputs), expected)
    detach(model)


def test_a_wrapper_with_get_base_model(pruning: FastAVConfig) -> None:
    """PEFT's shape, where PEFT itself is not installed."""
    model, inputs = omni()
    before = snapshot(model)

    class Wrapper(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def get_base_model(self) -> Any:
            return self.inner

        def generate(self, *args: Any, **kwargs: Any) -> Any:
            return self.inner.generate(*args, **kwargs)

    wrapped = Wrapper(model)
    assert attach(wrapped, pruning) is wrapped
    assert isinstance(run(wrapped, inputs).past_key_values, FastAVCache)
    assert FastAVConfig.for_model(wrapped, method="divprune").method == "divprune"
    detach(wrapped)
    assert snapshot(model) == before
