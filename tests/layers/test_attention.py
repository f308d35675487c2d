"""What reading scores changes about attention: only the decoder, only where it is bound."""

import pytest

from fastav_plugin import FastAVConfig, attach, detach
from tests.support.family_copies import omni, run
from tests.support.oracle import decoder_layers
from tests.support.small_models import COUNTS, cache, generate, prompt, qwen2, same, snapshot

IDS = prompt()


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
        name: module
        for name, module in model.named_modules()
        if str(getattr(getattr(module, "config", None), "_attn_implementation", "")).startswith(
            "fastav"
        )
    }
    assert renamed
    assert set(renamed.values()) <= set(decoder_layers(model).modules()), list(renamed)


def test_two_models_of_one_config_object() -> None:
    """Renaming attention must not leak to a model that shares the config."""
    one = qwen2()
    two = type(one)(one.config).eval()
    stock, shared = generate(two, IDS), one.config._attn_implementation
    generate(one, IDS, cache())
    assert one.config._attn_implementation == shared
    assert two.config is one.config
    assert same(generate(two, IDS), stock)
