"""Families nobody wrote an override for: exact against the masked-dense oracle, or refused."""

import math
from typing import Any

import pytest
import torch
import transformers

from fastav_plugin import FastAVCache, FastAVConfig, TokenMap, UnsupportedError, attach, detach
from fastav_plugin.binding.binding import Binding
from fastav_plugin.compatibility.probe import probe
from fastav_plugin.model_overrides.generic import _verdicts
from tests.support.cache_names import passing
from tests.support.families import map_of
from tests.support.family_prompts import plain_text
from tests.support.oracle import held_rows, masked_dense, run
from tests.support.prompts import PAD, VOCABULARY, collate

hub: Any = transformers

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": PAD,
    "bos_token_id": None,
    "eos_token_id": None,
}
EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4, "moe_intermediate_size": 32}
#: What makes each family different: soft caps, norms, experts, low-rank or shared heads, windows,
#: layers without rotary positions, scaled residuals.
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Gemma2": {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 16},
    "Phi3": {},
    "Mixtral": EXPERTS,
    "Cohere2": {"sliding_window": 16},
    "Granite": {"residual_multiplier": 0.5, "attention_multiplier": 0.2},
    "DeepseekV3": {
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "head_dim": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "SmolLM3": {"no_rope_layers": [1, 1, 1, 0]},
    "Olmo2": {},
    "DiffLlama": {},
}
CONFIGS = {
    "fastav": FastAVConfig(
        global_rule={"video": "first 20 tokens", "audio": "first 10 tokens"},
        fine_drop_ratio=0.25,
        min_media_tokens=1,
    ),
    "divprune": FastAVConfig(method="divprune", audio_keep_ratio=0.4, min_media_tokens=1),
}


def build(kind: str, **changes: Any) -> Any:
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **changes})
    torch.manual_seed(7)
    model: Any = getattr(transformers, f"{kind}ForCausalLM")(config)
    for name, weight in sorted(model.named_parameters()):
        if weight.dim() >= 2:
            std = 0.3 if "embed" in name else 1.2 / math.sqrt(weight[0].numel())
            torch.nn.init.normal_(weight, std=std)
    model.generation_config = transformers.GenerationConfig(pad_token_id=PAD)  # type: ignore[no-untyped-call]
    return model.eval()


@pytest.mark.parametrize("method", CONFIGS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_exact_without_an_override(kind: str, method: str) -> None:
    model = build(kind, **FAMILIES[kind])
    long, short, none = plain_text()
    for rows in ([long], [long, short, none]):
        inputs = collate(rows)
        stock = run(model, inputs)
        past = FastAVCache(CONFIGS[method], map_of(rows))
        pruned = run(model, inputs, past, forced=stock.tokens)
        detach(model)
        held = held_rows(past, inputs["input_ids"].shape[1])
        dense = masked_dense(model, inputs, held, stock.tokens)
        torch.testing.assert_close(pruned.logits, dense.logits, rtol=0, atol=1e-4)
        assert not torch.allclose(pruned.logits[0], stock.logits[0], atol=1e-3)
        assert past.report().flops_ratio < 1


@pytest.mark.parametrize("kind", ["GptOss", "Nemotron"])
def test_scores_that_cannot_be_read(kind: str) -> None:
    """Attention that looks at its own name: score hooks are refused, DivPrune is exact."""
    changes = {**EXPERTS, "head_dim": 12} if kind == "GptOss" else {}
    model = build(kind, **changes)
    rows = plain_text()[:1]
    inputs = collate(list(rows))
    with pytest.raises(UnsupportedError, match="by name.*divprune"):
        run(model, inputs, FastAVCache(CONFIGS["fastav"], map_of(list(rows))))
    past = FastAVCache(CONFIGS["divprune"], map_of(list(rows)))
    pruned = run(model, inputs, past)
    detach(model)
    held = held_rows(past, inputs["input_ids"].shape[1])
    dense = masked_dense(model, inputs, held, pruned.tokens)
    torch.testing.assert_close(pruned.logits, dense.logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["OPT", "GPTNeoX", "HrmText"])
def test_others_are_refused_with_a_reason(kind: str) -> None:
    if not hasattr(transformers, f"{kind}ForCausalLM"):
        pytest.skip(f"this version of transformers has no {kind}")
    changes = {"ffn_dim": 64, "word_embed_proj_dim": 48} if kind == "OPT" else {}
    model = build(kind, **changes)
    rows = list(plain_text()[:1])
    stock = run(model, collate(rows))
    with pytest.raises(UnsupportedError):
        run(model, collate(rows), FastAVCache(CONFIGS["divprune"], map_of(rows)))
    assert torch.equal(run(model, collate(rows)).logits, stock.logits)


@pytest.mark.parametrize("setting", ["dtype", "device"])
def test_the_probe_does_not_depend_on_process_defaults(setting: str) -> None:
    """A verdict made under odd defaults would stay for the life of the process."""
    config = transformers.Qwen3Config(
        num_hidden_layers=4, hidden_size=32, num_attention_heads=4, num_key_value_heads=2
    )
    model = transformers.Qwen3Model(config)
    state = torch.random.get_rng_state()
    try:
        if setting == "dtype":
            torch.set_default_dtype(torch.bfloat16)
        else:
            torch.set_default_device("meta")
        verdict = probe(model)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert verdict == (None, True)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("order", [(5, 2, 1), (1, 2, 5)])
def test_few_layers_say_nothing_about_many(order: tuple[int, ...]) -> None:
    """The probe of a shallow model cuts where it has layers."""
    _verdicts.clear()
    for layers in order:
        config = hub.OlmoConfig(
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=layers,
            num_attention_heads=4,
            vocab_size=64,
            eos_token_id=None,
        )
        model = hub.OlmoForCausalLM(config)
        attach(model.eval(), FastAVConfig(method="divprune"))
        assert Binding.of(model) is not None
        detach(model)


@pytest.mark.parametrize("attached", [False, True])
def test_a_cache_that_is_left_behind_is_told(attached: bool) -> None:
    """Phi-3 computes anew without its cache where its rotary factors change."""
    config = hub.Phi3Config(**SIZES, original_max_position_embeddings=43)
    model = hub.Phi3ForCausalLM(config).eval()
    ids = torch.arange(40)[None] + 1
    settings = FastAVConfig(method="divprune")
    tokens = TokenMap.from_spans(40, video=[(5, 33)])
    given = {} if attached else passing(FastAVCache(settings, tokens))
    if attached:
        attach(model, settings)
    short = {"inputs": ids, "attention_mask": torch.ones_like(ids), "do_sample": False}
    try:
        with pytest.raises(UnsupportedError, match="original_max_position_embeddings=43"):
            model.generate(**short, **given, max_new_tokens=7)
        if attached:
            assert model.generate(**short, max_new_tokens=3).shape[1] == 43
    finally:
        detach(model)
