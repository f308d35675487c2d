"""Prefill with and without kvpress, in turns, on the shape of Qwen2-0.5B with random weights.

kvpress wants an older transformers than fastav_plugin, so this needs an environment of its own:

    python -m venv kvpress && kvpress/bin/pip install kvpress==0.5.5 torch
    kvpress/bin/python deploy/benchmarks/kvpress_prefill.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from typing import Any

import torch
import transformers
from kvpress import KnormPress, SnapKVPress
from transformers import Qwen2Config, Qwen2ForCausalLM


def main() -> None:
    """Print one line per case: first token, share of dense, bytes of keys and values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--tokens", type=int, default=2222)
    parser.add_argument("--compression", type=float, default=0.5, help="share that is evicted")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    config = Qwen2Config(
        num_hidden_layers=24,
        hidden_size=896,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
        max_position_embeddings=65536,
        tie_word_embeddings=True,
        eos_token_id=None,
    )
    model: Any = Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16).eval()
    ids = torch.randint(0, 30000, (1, given.tokens))
    cases: dict[str, Any] = {
        "dense": None,
        "KnormPress": KnormPress(given.compression),
        "SnapKVPress": SnapKVPress(given.compression),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    held: dict[str, int] = {}
    for _ in range(1 + given.repeats):
        for name, press in cases.items():
            with nullcontext() if press is None else press(model):
                start = time.perf_counter()
                output = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=1,
                    do_sample=False,
                    return_dict_in_generate=True,
                )
                seconds[name].append(time.perf_counter() - start)
            # transformers 5.24 renamed the field.
            cache = output.cache if "cache" in output else output.past_key_values
            layers = cache.layers
            held[name] = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    print(f"transformers {transformers.__version__}, {given.tokens} tokens, bfloat16, batch 1")
    for name, times in seconds.items():
        # The first round warms up.
        ratios = [one / dense for one, dense in zip(times[1:], seconds["dense"][1:], strict=True)]
        print(
            f"{name:14}{statistics.median(times[1:]):8.2f} s{statistics.median(ratios):9.1%}"
            f"{held[name] / 1e6:9.1f} MB"
        )


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


if __name__ == "__main__":
    main()
