"""One prompt under several methods, side by side, with dense as the reference."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fastav_plugin.analysis import DENSE
from fastav_plugin.analysis.decoder_clock import DecoderClock
from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.attach import detach
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.config import FastAVConfig
from fastav_plugin.model_overrides import find_override
from fastav_plugin.report import PruningReport

#: Called after each step with its name.
Tick = Callable[[str], None]


@dataclass
class Outcome:
    """What one method answered and what it cost."""

    method: str  # "dense" or the config's method
    answer: str
    tokens_per_layer: list[int] = field(default_factory=list)
    modality_per_layer: dict[str, list[int]] = field(default_factory=dict)
    macs: int = 0  # multiply-accumulates of the prefill's decoder layers, in theory
    flops_ratio: float = 1.0  # the same and the overhead as a fraction of dense
    overhead_ratio: float = 0.0  # the part of it that choosing tokens took
    macs_per_layer: list[int] = field(default_factory=list)
    kv_bytes: int = 0  # held after the prefill
    kv_bytes_per_layer: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # to the first token, encoders included
    in_decoder: list[float] = field(default_factory=list)  # of these, in the decoder
    report: PruningReport | None = None
    reason: str | None = None  # why nothing was cut

    @property
    def prefill_seconds(self) -> float:
        """Median time to the first token."""
        return statistics.median(self.seconds)

    @property
    def decoder_seconds(self) -> float:
        """Median time of a prefill in the decoder."""
        return statistics.median(self.in_decoder)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "method": self.method,
            "answer": self.answer,
            "tokens_per_layer": self.tokens_per_layer,
            "modality_per_layer": self.modality_per_layer,
            "prefill_macs": self.macs,
            "prefill_macs_per_layer": self.macs_per_layer,
            "flops_ratio": self.flops_ratio,
            "overhead_ratio": self.overhead_ratio,
            "prefill_seconds": self.prefill_seconds,
            "prefill_seconds_all": self.seconds,
            "decoder_seconds": self.decoder_seconds,
            "decoder_seconds_all": self.in_decoder,
            "kv_bytes": self.kv_bytes,
            "kv_bytes_per_layer": self.kv_bytes_per_layer,
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
        model: in evaluation mode.
        inputs: of generate(), batch size 1.
        configs: one per method.
        decode: turns new token ids, int64 [n], into text.
        max_new_tokens: most tokens of an answer.
        repeats: timed prefills of each method.
        tick: called with a method's name after each of its answers and prefills.
    """
    detach(model)
    head: Any = unwrap(model)
    cost = find_override(head).cost(head.config)
    candidates: list[FastAVConfig | None] = [None, *configs]
    outcomes = []
    for config in candidates:
        name = DENSE if config is None else config.method
        run = run_once(model, inputs, config, max_new_tokens=max_new_tokens)
        outcomes.append(Outcome(name, decode(run.new_ids[0]).strip()))
        tick(name)
    for _ in range(repeats):
        for outcome, config in zip(outcomes, candidates, strict=True):
            with DecoderClock(head) as clock:
                run = run_once(model, inputs, config)
            assert clock.seconds is not None
            outcome.in_decoder.append(clock.seconds)
            report = run.report(model, inputs)
            outcome.seconds.append(run.seconds)
            outcome.kv_bytes = run.kv_bytes
            outcome.kv_bytes_per_layer = run.kv_bytes_per_layer
            outcome.tokens_per_layer = report.tokens_per_layer
            outcome.modality_per_layer = report.modality_per_layer
            outcome.macs_per_layer = [cost.macs([count]) for count in report.tokens_per_layer]
            outcome.macs = sum(outcome.macs_per_layer)
            outcome.flops_ratio = report.flops_ratio
            outcome.overhead_ratio = report.overhead_ratio
            outcome.report = report
            outcome.reason = report.reason
            tick(outcome.method)
    return outcomes
