"""Models and settings that do not go together: refused before any token."""

from typing import Any

import pytest
import torch
import transformers

from fastav_plugin import (
    ConfigError,
    FastAVCache,
    FastAVConfig,
    FastAVError,
    UnsupportedError,
    attach,
)
from tests.support.family_copies import family, run
from tests.support.small_models import cache, config, generate, prompt, same

IDS = prompt()


def tiny(kind: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    settings = {"vocab_size": 80, "pad_token_id": 0, "eos_token_id": None, **settings}
    return getattr(transformers, f"{kind}ForCausalLM")(
        getattr(transformers, f"{kind}Config")(**settings)
    ).eval()


def encoder_decoder() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 80,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
        "decoder_start_token_id": 0,
        "eos_token_id": None,
    }
    model: Any = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes))
    return model.eval()


def linear_attention() -> Any:
    return tiny(
        "Lfm2",
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        layer_types=["conv", "full_attention"],
        bos_token_id=None,
    )


@pytest.mark.parametrize(
    ("make", "why"),
    [(encoder_decoder, "encoder-decoder"), (linear_attention, "conv|without `self_attn`")],
)
def test_models_that_cannot_be_pruned(make: Any, why: str) -> None:
    model = make()
    stock = generate(model, IDS)
    with pytest.raises(UnsupportedError, match=why):
        generate(model, IDS, cache())
    with pytest.raises(UnsupportedError, match=why):
        attach(model, config())
    with pytest.raises(UnsupportedError, match=why):
        FastAVConfig.for_model(model)
    with pytest.raises(UnsupportedError, match=why):
        FastAVConfig.for_model(model.config)
    assert same(generate(model, IDS), stock)


@pytest.mark.parametrize("place", [1, 2])
def test_deepstack_layers_cannot_be_cut(place: int) -> None:
    model, inputs = family("qwen3_vl")
    deep = len(model.config.vision_config.deepstack_visual_indexes)
    stock = run(model, inputs)
    if place < deep:
        with pytest.raises(ConfigError, match=f"first {deep} layers.*layer {place}"):
            run(model, inputs, FastAVCache(config(global_rule="below 20", global_layer=place)))
        with pytest.raises(ConfigError, match="layer"):
            attach(model, config(global_rule="below 20", global_layer=place))
    else:
        past = FastAVCache(config(global_rule="below 20", global_layer=place))
        run(model, inputs, past)
        assert past.report().flops_ratio < 1
    assert same(run(model, inputs), stock)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "omni_video"])
def test_renumbered_positions_with_multi_dimensional_rotary(name: str) -> None:
    model, inputs = family(name)
    stock = run(model, inputs)
    wrong = config(method="divprune", positions="renumbered")
    with pytest.raises(ConfigError, match="renumbered.*original"):
        run(model, inputs, FastAVCache(wrong))
    with pytest.raises(ConfigError, match="renumbered"):
        attach(model, wrong)
    with pytest.raises(ConfigError, match="renumbered"):
        FastAVConfig.for_model(model, method="divprune", positions="renumbered")
    assert same(run(model, inputs), stock)


def test_not_a_transformers_model() -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedError, match="Linear"):
        attach(model, config())
    with pytest.raises(FastAVError):
        FastAVConfig.for_model(model)
    with pytest.raises(FastAVError):
        FastAVConfig.for_model(None)
    with pytest.raises(FastAVError):
        FastAVConfig.for_model("some/checkpoint")
