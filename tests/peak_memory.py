"""Peak memory of one prefill: `python -m tests.peak_memory METHOD`, one number in bytes.

A process of its own each time: what is measured is the high-water mark of resident memory above
what the model and the libraries take.
"""

from __future__ import annotations

import sys

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from fastav_plugin import FastAVCache, FastAVConfig, TokenMap

LAYERS, HEADS, SIZE, TOKENS = 16, 8, 64, 2048
#: Keys and values of one layer that holds everything, in bytes.
KV = 2 * TOKENS * HEADS * SIZE * 4


def config_of(method: str) -> FastAVConfig:
    return FastAVConfig(method=method, global_rule="first 64 tokens", visual_keep_ratio=0.25)


def peak(method: str) -> int:
    """Bytes that one prefill takes at most, beyond what was resident before.

    Args:
        method: of FastAVConfig, or "dense" for the stock cache.
    """
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=HEADS * SIZE,
        intermediate_size=256,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=2 * TOKENS,
    )
    model = LlamaForCausalLM(config).eval()  # type: ignore[no-untyped-call]
    tokens = TokenMap.from_spans(TOKENS, video=[(14, TOKENS - 32)])
    with torch.no_grad():
        warm = torch.ones((1, 8), dtype=torch.int64)
        model(warm, past_key_values=DynamicCache(config=config))
        model(warm, past_key_values=FastAVCache(config_of("none")))
        ids = torch.ones((1, TOKENS), dtype=torch.int64)
        cache = (
            DynamicCache(config=config)
            if method == "dense"
            else FastAVCache(config_of(method), tokens)
        )
        _reset()
        before = _resident("VmRSS")
        model(ids, past_key_values=cache, logits_to_keep=1)
    return _resident("VmHWM") - before


def _reset() -> None:
    """Let the high-water mark begin anew (Linux)."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _resident(name: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(peak(sys.argv[1]))
