"""One prompt under several methods, side by side, with dense as the reference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.attach import detach, unwrap
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.model_overrides import find_override
from fastav_plugin.report import PruningReport
from fastav_plugin.tokens import Modality
from fastav_plugin.upstream.arguments import cache_argument, cache_in

DENSE = "dense"

#: Called after each piece of work with its name.
Tick = Callable[[str], None]


@dataclass
class Outcome:
    """What one method answered and what it cost.

    Attributes:
        method: "dense" or the config's method.
        answer: the new text.
        tokens_per_layer: prompt tokens that each layer saw.
        modality_per_layer: the same for each modality by name.
        macs: multiply-accumulates of the prefill's decoder layers, in theory.
        flops_ratio: `macs` as a fraction of dense.
        kv_bytes: bytes of keys and values held after the prefill.
        seconds: each measured time to the first token: towers and prefill.
        report: the pruning report; None for dense.
        reason: why nothing was cut, or None.
    """

    method: str
    answer: str
    tokens_per_layer: list[int] = field(default_factory=list)
    modality_per_layer: dict[str, list[int]] = field(default_factory=dict)
    macs: int = 0
    flops_ratio: float = 1.0
    kv_bytes: int = 0
    seconds: list[float] = field(default_factory=list)
    report: PruningReport | None = None
    reason: str | None = None

    @property
    def prefill_seconds(self) -> float:
        """Median time to the first token."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "method": self.method,
            "answer": self.answer,
            "tokens_per_layer": self.tokens_per_layer,
            "modality_per_layer": self.modality_per_layer,
            "prefill_macs": self.macs,
            "flops_ratio": self.flops_ratio,
            "prefill_seconds": self.prefill_seconds,
            "prefill_seconds_all": self.seconds,
            "kv_bytes": self.kv_bytes,
            "reason": self.reason,
        }


def compare(
    model: nn.Module,
    inputs: Mapping[str, Any],
    configs: Sequence[FastAVConfig],
    *,
    decode: Callable[[Tensor], str],
    max_new_tokens: int = 32,
    repeats: int = 1,
    tick: Tick = lambda name: None,
) -> list[Outcome]:
    """Answer one prompt with an unmodified generate(), dense and then once per config.

    Every method answers once, which also warms it up; then come the timed prefills, in which the
    methods take turns.

    Args:
        model: a supported model in evaluation mode.
        inputs: what generate takes, batch size 1.
        configs: one per method.
        decode: turns new token ids, int64 [n], into text.
        max_new_tokens: most tokens of an answer.
        repeats: timed prefills of each method.
        tick: called with a method's name after each of its answers and prefills.

    Returns:
        One outcome per method, dense first.
    """
    candidates: list[FastAVConfig | None] = [None, *configs]
    outcomes = []
    for config in candidates:
        name = DENSE if config is None else config.method
        tokens, _, _ = _generate(model, inputs, config, max_new_tokens)
        outcomes.append(Outcome(name, decode(tokens).strip()))
        tick(name)
    for _ in range(repeats):
        for outcome, config in zip(outcomes, candidates, strict=True):
            start = _now(model)
            _, kept, cache = _generate(model, inputs, config, 1)
            outcome.seconds.append(_now(model) - start)
            if isinstance(cache, FastAVCache):
                outcome.report = cache.report()
            outcome.kv_bytes = kept
            tick(outcome.method)
    for outcome in outcomes:
        _account(outcome, model, inputs)
    return outcomes


def _generate(
    model: nn.Module, inputs: Mapping[str, Any], config: FastAVConfig | None, new_tokens: int
) -> tuple[Tensor, int, Any]:
    """New token ids, bytes of KV held at the end, and the cache."""
    detach(model)
    extra = {} if config is None else cache_argument(FastAVCache(config))
    output = unwrap(model).generate(  # type: ignore[operator]
        **inputs,
        **extra,
        do_sample=False,
        max_new_tokens=new_tokens,
        return_dict_in_generate=True,
    )
    cache = cache_in(output)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    detach(model)
    return output.sequences[0, inputs["input_ids"].shape[1] :], held, cache


def _account(outcome: Outcome, model: nn.Module, inputs: Mapping[str, Any]) -> None:
    """Fill in token counts and theoretical cost."""
    head = unwrap(model)
    override = find_override(head)
    config: Any = head.config
    cost = override.cost(config)
    tokens = override.token_map(
        config, inputs["input_ids"], inputs.get("attention_mask"), dict(inputs)
    )
    layers = len(override.parts(head).layers)
    length = int(tokens.valid.sum())
    if outcome.report is None:
        outcome.tokens_per_layer = [length] * layers
        for kind in Modality:
            count = int(tokens.mask(kind).sum())
            if count and kind is not Modality.PADDING:
                outcome.modality_per_layer[kind.name.lower()] = [count] * layers
    else:
        outcome.tokens_per_layer = outcome.report.tokens_per_layer
        outcome.modality_per_layer = outcome.report.modality_per_layer
        outcome.reason = outcome.report.reason
    outcome.macs = cost.macs(outcome.tokens_per_layer)
    outcome.flops_ratio = outcome.macs / cost.macs([length] * layers)


def _now(model: nn.Module) -> float:
    """A clock that waits for the device."""
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()
