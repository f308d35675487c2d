"""Fresh tiny models and prompts for tests that attach, interrupt and break things."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from fastav_plugin import FastAVCache, FastAVConfig, TokenMap
from tests.support.cache_names import passing

LENGTH = 30
VIDEO = (3, 17)
AUDIO = (17, 26)
#: 4 layers: the global cut on entering layer 2 drops 6 of 9 audio tokens, the fine cut on
#: entering layer 3 keeps floor(.8 * 17) = 13 media tokens.
COUNTS = [30, 30, 24, 20]


def qwen2(seed: int = 0, attention: str = "sdpa", **changes: Any) -> Any:
    """A tiny Qwen2 with weights large enough that every token matters."""
    sizes: dict[str, Any] = {
        "vocab_size": 80,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
        "max_position_embeddings": 512,
    }
    torch.manual_seed(seed)
    sizes |= {**changes, "attn_implementation": attention}
    model: Any = Qwen2ForCausalLM(Qwen2Config(**sizes))
    model.eval()
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    return model


def prompt(seed: int = 0, batch: int = 1, length: int = LENGTH) -> Tensor:
    """int64 [B, T] of word ids."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(1, 80, (batch, length), generator=draw)


def tokens() -> TokenMap:
    """What `prompt()` holds."""
    return TokenMap.from_spans(LENGTH, video=[VIDEO], audio=[AUDIO])


def config(**changes: Any) -> FastAVConfig:
    """FastAV that cuts the prompt above as COUNTS says."""
    rule = {"audio": "first 3 tokens"}
    settings: dict[str, Any] = {"global_rule": rule, "fine_drop_ratio": 0.2, "min_media_tokens": 1}
    return FastAVConfig(**settings | changes)


def cache(**changes: Any) -> Any:
    """A fresh FastAVCache for that prompt; Any, because its layers are FastAVLayers."""
    return FastAVCache(config(**changes), tokens())


def generate(model: Any, ids: Tensor, past: Any = None, new: int = 5, **settings: Any) -> Any:
    """Greedy generation with raw logits of every step."""
    return model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        **passing(past),
        **settings,
    )


def same(one: Any, two: Any) -> bool:
    """Whether two generations have the same tokens and bitwise the same logits."""
    return torch.equal(one.sequences, two.sequences) and all(
        torch.equal(a, b) for a, b in zip(one.logits, two.logits, strict=True)
    )


def snapshot(model: torch.nn.Module) -> dict[str, Any]:
    """Everything that attaching may change on a model: attributes, hooks, configs by identity."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        hooks = {
            key: [(number, id(hook)) for number, hook in value.items()]
            for key, value in vars(module).items()
            if "hooks" in key and isinstance(value, dict)
        }
        settings = getattr(module, "config", None)
        found[name] = {
            # `rope_deltas` is what the model itself remembers of its last prompt.
            "attributes": {k: id(v) for k, v in vars(module).items() if k != "rope_deltas"},
            "hooks": hooks,
            "config": id(settings),
            "attention": getattr(settings, "_attn_implementation", None),
            "class": type(module),
        }
    return found


def global_hooks() -> dict[str, int]:
    """How many hooks each process-wide table of torch holds."""
    from torch.nn.modules import module

    return {
        name: len(value)
        for name, value in vars(module).items()
        if name.startswith("_global_") and isinstance(value, dict)
    }
