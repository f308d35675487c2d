"""Peak memory of one prefill, in bytes.

`python -m tests.behaviour.life_cycle.peak_memory METHOD [TOKENS]`

A process of its own each time: what is measured is the high-water mark of resident memory above
what the model and the libraries take.
"""

from __future__ import annotations

import sys

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from fastav_plugin import FastAVCache, FastAVConfig, TokenMap
from fastav_plugin.calibration.rollout_profile import RolloutObserver
from tests.support.cache_names import passing

#: The method that cuts nothing and reads the rollout, as a calibration does.
OBSERVE = "observe"
LAYERS, HEADS, SIZE, TOKENS = 16, 8, 64, 2048
#: Keys and values of one layer that holds everything, in bytes.
KV = 2 * TOKENS * HEADS * SIZE * 4


def config_of(method: str) -> FastAVConfig:
    if method == OBSERVE:
        return FastAVConfig(hooks=[RolloutObserver()])
    return FastAVConfig(method=method, global_rule="first 64 tokens", visual_keep_ratio=0.25)


def peak(method: str, length: int = TOKENS) -> int:
    """Bytes that one prefill takes at most, beyond what was resident before.

    Args:
        method: of FastAVConfig, "dense" for the stock cache, or `OBSERVE`.
        length: of the prompt.
    """
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=HEADS * SIZE,
        intermediate_size=256,
        # Few layers, so that what one of them needs is seen beside what all of them keep.
        num_hidden_layers=4 if method == OBSERVE else LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=2 * max(TOKENS, length),
    )
    model = LlamaForCausalLM(config).eval()  # type: ignore[no-untyped-call]
    tokens = TokenMap.from_spans(length, video=[(14, length - 32)])
    with torch.no_grad():
        warm = torch.ones((1, 8), dtype=torch.int64)
        model(warm, **passing(DynamicCache(config=config)))
        model(warm, **passing(FastAVCache(config_of("none"))))
        ids = torch.ones((1, length), dtype=torch.int64)
        cache = (
            DynamicCache(config=config)
            if method == "dense"
            else FastAVCache(config_of(method), tokens)
        )
        _reset()
        before = _resident("VmRSS")
        model(ids, **passing(cache), logits_to_keep=1)
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
    print(peak(sys.argv[1], *(int(count) for count in sys.argv[2:])))
