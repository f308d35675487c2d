"""Attached models that are copied, saved, wrapped or dispatched."""

import copy
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import torch

from fastav_plugin import FastAVCache, FastAVConfig, UnsupportedError, attach, detach
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cache_names import passing
from tests.support.family_copies import omni, run
from tests.support.small_models import cache, config, generate, prompt, qwen2, same, snapshot


def test_a_deep_copy_of_an_attached_model(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    stock = run(model, inputs)
    before = snapshot(model)
    attach(model, pruning)
    expected = run(model, inputs)
    twin = copy.deepcopy(model)
    assert same(run(model, inputs), expected)
    assert same(run(twin, inputs), expected), "a copy is attached as the original is"
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
peft_warns = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="peft is not installed"
)
needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"
)


def adapted(model: Any) -> Any:
    """A model wrapped by PEFT with a LoRA adapter that changes what it says."""
    import peft

    settings = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return peft.get_peft_model(model, settings).eval()


@needs_peft
@peft_warns
@pytest.mark.parametrize("attached", [False, True])
def test_a_model_wrapped_by_peft(pruning: FastAVConfig, attached: bool) -> None:
    """With its adapter, without it for a while, and with the adapter merged into the weights."""
    model, inputs = omni()
    expected = run(model, inputs, FastAVCache(pruning))
    detach(model)
    wrapped = adapted(model)
    assert FastAVConfig.for_model(wrapped).method == "fastav"
    if attached:
        assert attach(wrapped, pruning) is wrapped

    def say(model: Any) -> Any:
        result = run(model, inputs, None if attached else FastAVCache(pruning))
        assert cache_in(result).report().flops_ratio < 1
        return result

    with_adapter = say(wrapped)
    assert not same(with_adapter, expected)
    with wrapped.disable_adapter():
        assert same(say(wrapped), expected)
    assert same(say(wrapped), with_adapter)
    merged = wrapped.merge_and_unload()
    for one, two in zip(say(merged).logits, with_adapter.logits, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4)
    assert detach(wrapped) is wrapped
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert "generate" not in vars(model)


@needs_peft
@peft_warns
def test_an_adapter_added_to_an_attached_model(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    attach(model, pruning)
    later = run(adapted(model), inputs)
    fresh, _ = omni()
    assert same(later, run(adapted(fresh), inputs, FastAVCache(pruning)))


@needs_peft
@peft_warns
@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_prompt_learning_is_refused(pruning: FastAVConfig, kind: str) -> None:
    import peft

    model, inputs = omni()
    stock = run(model, inputs)
    settings = getattr(peft, kind)(num_virtual_tokens=4, task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(model, settings).eval()
    with pytest.raises(UnsupportedError, match="_TUNING"):
        attach(wrapped, pruning)
    detach(wrapped)
    with wrapped.disable_adapter():
        assert same(run(model, inputs), stock)


@needs_accelerate
@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("how", ["dispatched", "offloaded", "prepared"])
# Older releases warn of ids on the CPU for any model that is offloaded.
@pytest.mark.filterwarnings("ignore:You are calling .generate.. with the `input_ids` being on a")
def test_a_model_in_accelerates_hands(pruning: FastAVConfig, how: str, attached: bool) -> None:
    import accelerate

    model, inputs = omni()
    expected = run(model, inputs, FastAVCache(pruning))
    detach(model)
    if how == "dispatched":
        model = accelerate.dispatch_model(model, {"": "cpu"}, force_hooks=True)
    elif how == "offloaded":
        accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    else:
        model = accelerate.Accelerator(cpu=True).prepare(model)
    if attached:
        attach(model, pruning)
    for _ in range(2):
        assert same(run(model, inputs, None if attached else FastAVCache(pruning)), expected)
    detach(model)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_compiled_wrapper_around_a_model() -> None:
    """Its generate() is the model's own, which runs as it is; calls of the wrapper are compiled."""
    model, ids = qwen2(), prompt()
    expected = generate(model, ids, cache())
    detach(model)
    compiled: Any = torch.compile(model, backend="eager")
    assert same(generate(compiled, ids, cache()), expected)
    assert FastAVConfig.for_model(compiled, method="divprune").method == "divprune"
    assert detach(compiled) is compiled
    assert not any(module._forward_pre_hooks for module in model.modules())
    with pytest.raises(UnsupportedError, match="[Aa]ttach, then compile"):
        attach(compiled, config())
    attach(model, config())
    compiled = torch.compile(model, backend="eager")
    assert isinstance(cache_in(generate(compiled, ids)), FastAVCache)
    detach(compiled)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.fixture
def process_group() -> Iterator[None]:
    """A group of this process alone."""
    dist: Any = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel])
def test_data_parallel_is_refused(wrap: Callable[[Any], Any]) -> None:
    model, ids = qwen2(), prompt()
    expected = generate(model, ids, cache())
    detach(model)
    before = snapshot(model)
    wrapped = wrap(model)
    past = cache()
    for use in (
        lambda: attach(wrapped, config()),
        lambda: detach(wrapped),
        lambda: FastAVConfig.for_model(wrapped),
        lambda: attach(cast(Any, torch.compile(wrapped)), config()),
        lambda: wrapped(ids, **passing(past)),
        lambda: wrapped(ids, None, None, past),
    ):
        with pytest.raises(UnsupportedError, match="data parallelism.*model.module"):
            use()
    assert snapshot(model) == before
    # The cache still finds the model inside.
    assert same(generate(wrapped.module, ids, past), expected)
    with torch.no_grad():
        stock = qwen2()(ids).logits
        torch.testing.assert_close(wrapped(ids).logits, stock)


def test_a_replica_is_refused() -> None:
    """What DataParallel calls where there are several devices."""
    model, ids = qwen2(), prompt()
    for bound in (False, True):
        past = cache()
        with pytest.raises(UnsupportedError, match="data parallelism"):
            model._replicate_for_data_parallel()(ids, **passing(past))
        assert len(past) == 0
        if not bound:
            generate(model, ids, cache())
    attach(model, config())
    replica = model._replicate_for_data_parallel()
    with pytest.raises(UnsupportedError, match="data parallelism"):
        replica(ids, **passing(cache()))


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
    assert isinstance(cache_in(run(wrapped, inputs)), FastAVCache)
    assert FastAVConfig.for_model(wrapped, method="divprune").method == "divprune"
    detach(wrapped)
    assert snapshot(model) == before
