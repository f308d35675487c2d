"""attach and detach: what they change, what they leave alone, and that it can all be undone."""

import copy
import importlib.util
import logging
import subprocess
import sys
from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache

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
from tests.life_cycle.models import (
    COUNTS,
    cache,
    config,
    generate,
    global_hooks,
    prompt,
    qwen2,
    same,
    snapshot,
)
from tests.life_cycle.models import tokens as prompt_map

IDS = prompt()


def omni(seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """A tiny Qwen2.5-Omni thinker of its own, and a prompt of image, video and audio."""
    from tests.families import FAMILIES

    family = FAMILIES["omni_all"]
    return copy.deepcopy(family.model("sdpa")), family.batch(family.single())


def run(model: Any, inputs: dict[str, Any], past: Any = None, **settings: Any) -> Any:
    from tests.prompts import SUPPRESSED

    given = {} if past is None else {"past_key_values": past}
    return model.generate(
        **inputs,
        **given,
        max_new_tokens=4,
        do_sample=False,
        suppress_tokens=SUPPRESSED,
        return_dict_in_generate=True,
        output_logits=True,
        **settings,
    )


def counts(past: Any) -> list[int]:
    return [layer.keys.shape[-2] for layer in past.layers]


@pytest.fixture
def pruning() -> FastAVConfig:
    """For an Omni prompt, where placeholders say what is what."""
    return config(global_rule="below 20", global_layer=2)


def test_attach_prunes_every_generate_and_detach_none(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    stock = run(model, inputs)
    before = snapshot(model)
    expected = run(model, inputs, FastAVCache(pruning))
    detach(model)
    assert attach(model, pruning) is model
    for _ in range(2):
        out = run(model, inputs)
        assert isinstance(out.past_key_values, FastAVCache)
        assert same(out, expected)
        assert out.past_key_values.report().flops_ratio < 1
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
    assert isinstance(out.past_key_values, FastAVCache), "attach must reach the user's generate"
    detach(model)
    assert model.generate is counted


def test_attach_again_replaces_the_config(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    before = snapshot(model)
    attach(model, pruning)
    attach(model, pruning.replace(method="divprune"))
    out = run(model, inputs)
    assert out.past_key_values.config.method == "divprune"
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
        FastAVConfig(method="nothing"),
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


def test_method_none_is_bit_identical() -> None:
    model, inputs = omni()
    stock = run(model, inputs)
    attach(model, FastAVConfig(method="none"))
    out = run(model, inputs)
    assert same(out, stock)
    assert type(out.past_key_values) is DynamicCache
    assert same(run(model, inputs, FastAVCache(FastAVConfig(method="none"))), stock)


def test_a_direct_call_of_an_attached_model_is_dense(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    with torch.inference_mode():
        stock = model(**inputs).logits
        attach(model, pruning)
        assert torch.equal(model(**inputs).logits, stock)
        assert torch.equal(model(**inputs, use_cache=False).logits, stock)
        mine = DynamicCache(config=model.config.get_text_config())
        assert torch.equal(model(**inputs, past_key_values=mine).logits, stock)
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
    assert attached[1].past_key_values is attached[0].past_key_values
    assert sum("unpruned" in record.message for record in caplog.records) == 1


def test_a_users_static_cache_is_left_alone() -> None:
    model = qwen2()

    def static() -> Any:
        past = StaticCache(config=model.config, max_cache_len=64)
        return model(input_ids=IDS, past_key_values=past).logits

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


@pytest.mark.parametrize("first", ["sdpa", "eager"])
def test_another_attention_after_binding(first: str) -> None:
    second = "eager" if first == "sdpa" else "sdpa"
    model = qwen2(attention=first)
    before = snapshot(model)
    generate(model, IDS, cache())
    model.set_attn_implementation(second)
    past = cache()
    out = generate(model, IDS, past)
    fresh = qwen2(attention=second)
    assert same(out, generate(fresh, IDS, cache()))
    assert past.report().tokens_per_layer == COUNTS
    assert same(generate(model, IDS), generate(qwen2(attention=second), IDS))
    model.set_attn_implementation(first)
    assert same(generate(model, IDS), generate(qwen2(attention=first), IDS))
    assert same(generate(model, IDS, cache()), generate(qwen2(attention=first), IDS, cache()))
    detach(model)
    assert snapshot(model) == before


def test_the_towers_of_omni_keep_their_attention(pruning: FastAVConfig) -> None:
    model, inputs = omni()
    attach(model, pruning)
    run(model, inputs)
    renamed = {
        name
        for name, module in model.named_modules()
        if str(getattr(getattr(module, "config", None), "_attn_implementation", "")).startswith(
            "fastav"
        )
    }
    assert renamed
    assert all("language_model.layers." in name for name in renamed), renamed


def test_two_models_of_one_config_object() -> None:
    """Renaming attention must not leak to a model that shares the config."""
    one = qwen2()
    two = type(one)(one.config).eval()
    stock, shared = generate(two, IDS), one.config._attn_implementation
    generate(one, IDS, cache())
    assert one.config._attn_implementation == shared
    assert two.config is one.config
    assert same(generate(two, IDS), stock)


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
    generate(model, IDS, cache())
    attach(model, config())
    model.save_pretrained(tmp_path)
    assert "fastav" not in (tmp_path / "config.json").read_text().lower()
    again = type(model).from_pretrained(tmp_path).eval()
    again.generation_config = model.generation_config
    assert same(generate(again, IDS), generate(qwen2(), IDS))


def test_explicit_hooks() -> None:
    model = qwen2()
    hooks = LayerHookList([GlobalPruning("below 10", layer=1)])
    past = FastAVCache(FastAVConfig(hooks=hooks, min_media_tokens=1), prompt_map())
    generate(model, IDS, past)
    assert past.report().tokens_per_layer == [30, 14, 14, 14]
    assert past.report().method == "hooks"


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


PROBE = """
import json, logging, sys, threading, warnings
import torch, transformers
from torch.nn.modules import module
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

def state():
    tables = {k: len(v) for k, v in vars(module).items() if k.startswith("_global_")
              and hasattr(v, "__len__")}
    return json.dumps({
        "hooks": tables,
        "attention": sorted(ALL_ATTENTION_FUNCTIONS.keys()),
        "masks": sorted(ALL_MASK_ATTENTION_FUNCTIONS.keys()),
        "warnings": [str(f) for f in warnings.filters],
        "threads": threading.active_count(),
        "rng": torch.get_rng_state().sum().item(),
        "grad": torch.is_grad_enabled(),
        "dtype": str(torch.get_default_dtype()),
        "num_threads": torch.get_num_threads(),
        "forward": id(torch.nn.Module.__call__),
        "generate": id(transformers.GenerationMixin.generate),
        "dynamic": sorted(map(str, vars(transformers.DynamicCache))),
        "handlers": [str(h) for h in logging.getLogger().handlers],
        "levels": logging.getLogger().level,
        "hook": str(sys.excepthook),
    }, sort_keys=True)

before = state()
import fastav_plugin
assert state() == before, (before, state())
fastav_plugin.FastAVConfig()
assert state() == before
cache = fastav_plugin.FastAVCache()
assert state() != before, "an unbound cache waits for its model"
del cache
assert state() == before, (before, state())
print("unchanged")
"""


def test_importing_changes_nothing_in_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "unchanged", done.stderr
