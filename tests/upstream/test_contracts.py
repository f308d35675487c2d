"""Every name that the package relies on is in the installed releases; a moved one is named."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers import (
    GenerationConfig,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2ForCausalLM,
)
from transformers.cache_utils import Cache
from transformers.generation.utils import GenerationMixin

from fastav_plugin import FastAVCache, FastAVConfig, UnsupportedError, attach
from fastav_plugin.binding.binding import Binding
from fastav_plugin.upstream import (
    CONTRACTS,
    _look_up,
    arguments,
    attention,
    caches,
    generation,
    models,
    positions,
    server,
    torch_internals,
)
from fastav_plugin.upstream.contract import holds
from fastav_plugin.upstream.releases import NEWEST, OLDEST
from tests.support.families import build
from tests.support.small_models import COUNTS, cache, config, generate, prompt, qwen2

OF_TRANSFORMERS = CONTRACTS["transformers"] | server.CONTRACTS
OF_TORCH = CONTRACTS["torch"]


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_the_installed_transformers_has(name: str) -> None:
    assert holds(OF_TRANSFORMERS[name]), f"transformers {transformers.__version__} moved {name}"


@pytest.mark.parametrize("name", OF_TORCH)
def test_the_installed_torch_has(name: str) -> None:
    assert holds(OF_TORCH[name]), f"torch {torch.__version__} moved {name}"


def test_no_name_is_listed_twice() -> None:
    modules = (arguments, attention, caches, generation, models, positions)
    every = [module.CONTRACTS for module in (*modules, server, torch_internals)]
    assert sum(map(len, every)) == len(OF_TRANSFORMERS) + len(OF_TORCH) > 30
    assert not OF_TRANSFORMERS.keys() & OF_TORCH.keys()


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Names are looked up again, now and after the test."""
    _look_up.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    _look_up.cache_clear()


def rename(function: Any, old: str, new: str) -> Any:
    """A copy of a function whose code knows a variable, an attribute and a string by a new name."""
    code = function.__code__

    def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new if name == old else name for name in names)

    constants = tuple(
        new if item == old else renamed(item) if isinstance(item, tuple) and old in item else item
        for item in code.co_consts
    )
    copy = FunctionType(
        code.replace(
            co_varnames=renamed(code.co_varnames),
            co_names=renamed(code.co_names),
            co_cellvars=renamed(code.co_cellvars),
            co_consts=constants,
        ),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def run_alone(source: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, which nothing was imported into yet."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


LOOPS = ["_prefill", "_sample", "_beam_search", "_assisted_decoding"]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        *((method, "model_kwargs") for method in LOOPS),
        *((method, "self") for method in LOOPS),
        ("_prefill", "generation_config"),
        ("_assisted_decoding", "generation_config"),
        ("_assisted_decoding", "candidate_length"),
        ("_prepare_cache_for_generation", "_is_user_defined"),
        ("_prepare_cache_for_generation", "DynamicCache"),
        ("_supports_logits_to_keep", "logits_to_keep"),
    ],
)
def test_a_renamed_name_of_a_method_is_named(
    anew: pytest.MonkeyPatch, method: str, name: str
) -> None:
    stock = getattr(GenerationMixin, method)
    anew.setattr(GenerationMixin, method, rename(stock, name, "moved"))
    model = qwen2()
    with pytest.raises(UnsupportedError, match=rf"`?{name}`?.*{OLDEST} to {NEWEST}"):
        attach(model, config())
    assert Binding.of(model) is None


@pytest.mark.parametrize("name", ["model_kwargs", "generation_config", "kwargs"])
def test_a_renamed_variable_of_generate_is_named(anew: pytest.MonkeyPatch, name: str) -> None:
    stock = inspect.unwrap(GenerationMixin.generate)
    anew.setattr(GenerationMixin, "generate", rename(stock, name, "moved"))
    with pytest.raises(UnsupportedError, match=rf"`{name}` of GenerationMixin.generate"):
        attach(qwen2(), config())


@pytest.mark.parametrize("method", [*LOOPS, "_prepare_position_ids_for_generation"])
def test_a_method_that_is_gone_is_named(anew: pytest.MonkeyPatch, method: str) -> None:
    anew.delattr(GenerationMixin, method)
    with pytest.raises(UnsupportedError, match=method):
        attach(qwen2(), config())


@pytest.mark.parametrize("name", ["prefill_chunk_size", "num_beams", "num_return_sequences"])
def test_a_setting_that_is_gone_is_named(anew: pytest.MonkeyPatch, name: str) -> None:
    stock: Any = GenerationConfig.__init__

    def without(self: GenerationConfig, **kwargs: object) -> None:
        stock(self, **kwargs)
        vars(self).pop(name)

    model = qwen2()
    anew.setattr(GenerationConfig, "__init__", without)
    with pytest.raises(UnsupportedError, match=f"`{name}` of GenerationConfig"):
        attach(model, config())


def test_a_cache_under_a_third_name_is_named(anew: pytest.MonkeyPatch) -> None:
    def prepare(self: object, input_ids: object, kv_store: object = None) -> None: ...

    anew.setattr(GenerationMixin, "prepare_inputs_for_generation", prepare)
    with pytest.raises(UnsupportedError, match="`cache` or `past_key_values`"):
        attach(qwen2(), config())


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("hidden_states attention_mask position_embeddings kv_store", "past_key_values"),
        ("hidden_states attention_mask rope past_key_values", "position_embeddings"),
        ("hidden_states mask position_embeddings past_key_values", "attention_mask"),
        ("states attention_mask position_embeddings past_key_values", "hidden_states"),
    ],
)
def test_a_layer_with_an_argument_of_another_name(
    monkeypatch: pytest.MonkeyPatch, names: str, wanted: str
) -> None:
    """A layer of a later release: its own loop knows it, this package does not."""
    model = qwen2()
    scope: dict[str, object] = {}
    exec(f"def forward(self, {', '.join(names.split())}, **kwargs): ...", scope)
    monkeypatch.setattr(type(model.model.layers[0]), "forward", scope["forward"])
    uses: tuple[Callable[[], Any], ...] = (
        lambda: attach(model, config()),
        lambda: generate(model, prompt(), FastAVCache(config())),
    )
    for use in uses:
        with pytest.raises(UnsupportedError) as caught:
            use()
        assert f"`{wanted}`" in str(caught.value)
        assert transformers.__version__ in str(caught.value)
        assert f"{OLDEST} to {NEWEST}" in str(caught.value)
        assert Binding.of(model) is None


def test_a_config_that_keeps_its_attention_elsewhere(anew: pytest.MonkeyPatch) -> None:
    moved = property(lambda self: "sdpa", lambda self, value: None)
    anew.setattr(PreTrainedConfig, "_attn_implementation", moved)
    with pytest.raises(UnsupportedError, match="_attn_implementation_internal"):
        attach(qwen2(), config())


def test_a_model_that_keeps_its_mesh_elsewhere(anew: pytest.MonkeyPatch) -> None:
    holder = next(kind for kind in PreTrainedModel.__mro__ if "_device_mesh" in vars(kind))
    anew.delattr(holder, "_device_mesh")
    with pytest.raises(UnsupportedError, match="_device_mesh"):
        attach(qwen2(), config())


@pytest.mark.parametrize("name", ["skip_code", "_stance"])
def test_a_name_of_dynamo_that_is_gone(anew: pytest.MonkeyPatch, name: str) -> None:
    stock = vars(torch_internals._eval_frame())
    left = SimpleNamespace(**{key: value for key, value in stock.items() if key != name})
    anew.setattr(torch_internals, "_eval_frame", lambda: left)
    with pytest.raises(UnsupportedError, match=f"torch .* lacks .*`{name}"):
        attach(qwen2(), config())


def test_dynamo_is_told_of_wrappers_when_a_model_is_bound(anew: pytest.MonkeyPatch) -> None:
    told: list[CodeType] = []
    anew.setattr(torch_internals._eval_frame(), "skip_code", told.append)
    Binding.make(qwen2())
    forwards = Qwen2ForCausalLM.forward.__code__
    assert Binding.enter_head.__code__ in told
    if forwards.co_name == "wrapped_func":  # from transformers 5.24 on
        assert forwards in told


WITHOUT_NAMES = """
import inspect, sys
import torch._dynamo.eval_frame as eval_frame
from transformers.generation.utils import GenerationMixin
from transformers import PreTrainedModel, modeling_utils
del eval_frame.skip_code, eval_frame._stance
for name in ("_prefill", "_sample", "_beam_search", "_assisted_decoding"):
    delattr(GenerationMixin, name)
del GenerationMixin._prepare_position_ids_for_generation
del GenerationMixin._prepare_cache_for_generation
import fastav_plugin
from fastav_plugin import FastAVCache, FastAVConfig
FastAVCache(FastAVConfig())
print("imported")
"""


def test_importing_the_package_needs_none_of_them() -> None:
    done = run_alone(WITHOUT_NAMES)
    assert done.stdout.strip() == "imported", done.stderr[-2000:]


class _OwnCache(Cache):
    """A kind of cache that a later generate() may make."""


def test_an_unknown_cache_of_generate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = qwen2()
    attach(model, config())
    stock = GenerationMixin._prepare_cache_for_generation
    from fastav_plugin.upstream.arguments import cache_name, cache_of

    def prepare(self: Any, generation_config: Any, model_kwargs: Any, *rest: Any) -> None:
        stock(self, generation_config, model_kwargs, *rest)
        made = cache_of(model_kwargs)
        own = _OwnCache(layers=made.layers)
        model_kwargs[cache_name()] = own

    monkeypatch.setattr(GenerationMixin, "_prepare_cache_for_generation", prepare)
    with pytest.raises(UnsupportedError, match="_OwnCache"):
        generate(model, prompt())


def test_a_generate_that_shows_no_cache_is_not_dense_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Should generate() ever hide its cache from frames, an attached model says so."""
    model = qwen2()
    attach(model, config())
    monkeypatch.setattr(generation, "_cache_in", lambda frame: None)
    with pytest.raises(UnsupportedError, match="nothing was pruned"):
        generate(model, prompt())


def test_a_model_that_remembers_its_positions_elsewhere() -> None:
    model = build("qwen2_5_vl")
    del vars(model.model)["rope_deltas"]
    with pytest.raises(UnsupportedError, match="`rope_deltas`"):
        attach(model, FastAVConfig())
    assert Binding.of(model) is None


def test_a_phi_that_drops_its_cache_at_another_setting(anew: pytest.MonkeyPatch) -> None:
    sizes: dict[str, Any] = {
        "vocab_size": 80,
        "hidden_size": 32,
        "intermediate_size": 48,
        "pad_token_id": 0,
    }
    heads: dict[str, Any] = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    model: Any = Phi3ForCausalLM(Phi3Config(**sizes, **heads))
    model.eval()
    kind = type(model)
    stock = inspect.unwrap(kind.prepare_inputs_for_generation)
    moved = rename(stock, "original_max_position_embeddings", "moved")
    anew.setattr(kind, "prepare_inputs_for_generation", moved)
    with pytest.raises(UnsupportedError, match="`original_max_position_embeddings` in Phi"):
        attach(model, FastAVConfig())
    assert Binding.of(model) is None


@pytest.mark.parametrize("name", ["visual_pos_masks", "deepstack_visual_embeds"])
def test_a_deepstack_argument_of_another_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    model = build("qwen3_vl")
    kind: Any = type(model.model.language_model)
    stock = inspect.unwrap(kind.forward)
    monkeypatch.setattr(kind, "forward", rename(stock, name, "moved"))
    with pytest.raises(UnsupportedError, match=f"no argument `{name}`"):
        attach(model, FastAVConfig())
    assert Binding.of(model) is None


def test_layers_that_are_called_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop may stop naming what it passes; cuts go on."""
    from fastav_plugin.upstream.arguments import argument_names

    expected = generate(qwen2(), prompt(), cache())
    model = qwen2()
    for layer in model.model.layers:
        names = argument_names(layer)[1:4]

        def by_position(module: Any, args: Any, kwargs: Any, names: Any = names) -> Any:
            given = dict(kwargs)
            return (*args, *(given.pop(name, None) for name in names)), given

        layer.register_forward_pre_hook(by_position, with_kwargs=True)
    past = cache()
    found = generate(model, prompt(), past)
    assert past.report().tokens_per_layer == COUNTS
    assert torch.equal(found.sequences, expected.sequences)


MOVED_CLASS = """
from transformers import cache_utils
del cache_utils.CacheLayerMixin
import fastav_plugin
from fastav_plugin import FastAVCache, FastAVConfig, UnsupportedError
from fastav_plugin.upstream import check
FastAVCache(FastAVConfig())
try:
    check()
except UnsupportedError as error:
    print(error)
"""


def test_the_class_of_cache_layers_may_move() -> None:
    done = run_alone(MOVED_CLASS)
    assert "lacks the class CacheLayerMixin" in done.stdout, done.stderr[-2000:]
