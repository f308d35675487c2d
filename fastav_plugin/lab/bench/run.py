"""Prefill, decode and memory of one model, dense and pruned in turns within one process."""

import functools
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import DynamicCache

from fastav_plugin.analysis.comparison import Tick
from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.attach import attach, detach
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.lab.bench.clock import (
    PrunerClock,
    forget_peak_memory,
    machine,
    peak_memory,
    spread,
)
from fastav_plugin.lab.bench.peers import AS_PUBLISHED, PEERS, published, run_layer_twice
from fastav_plugin.lab.bench.plan import BenchPlan
from fastav_plugin.lab.bench.shapes import draw_ids, find_shape, make_model
from fastav_plugin.planning.dry_run import PromptSize
from fastav_plugin.tokens import TokenMap
from fastav_plugin.upstream.arguments import cache_argument


def _nothing() -> None:
    """Leave the model as it is; pass no cache."""


@dataclass
class Case:
    """One way to run the same prompt, and what was measured of it.

    Attributes:
        name: what the table calls it.
        prepare: puts the detached model into the case's state, untimed; a handle that it returns
            is removed after the run.
        cache: makes the cache that generate() is given, or None.
        pruned: whether this case drops tokens; the others must be bit-identical to dense.
        seconds: each time to first token.
        ratios: each time divided by the dense time of the same round.
        steps: each time of a later token.
        theory: theoretical multiply-accumulates of the prefill as a fraction of dense.
        pruner: seconds in each part of the pruner's code, one entry per clocked run.
        kv_bytes: keys and values held after the prefill.
        peak_bytes: most memory held in any measured run, weights included; None if the
            platform does not report it.
        call_bytes: the same less what was held when the run began.
        identical: whether the first token's logits equal the dense ones bit for bit.
    """

    name: str
    prepare: Callable[[], Any] = field(default_factory=lambda: _nothing)
    cache: Callable[[], Any] = field(default_factory=lambda: _nothing)
    pruned: bool = False
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    theory: float = 1.0
    pruner: list[dict[str, float]] = field(default_factory=list)
    kv_bytes: int = 0
    peak_bytes: int | None = None
    call_bytes: int | None = None
    identical: bool = True

    def forget(self) -> None:
        """Discard the warm-up measurements."""
        self.seconds, self.ratios, self.steps, self.pruner = [], [], [], []
        self.peak_bytes = self.call_bytes = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        step = statistics.median(self.steps) if self.steps else None
        parts = {
            name: statistics.median(spent[name] for spent in self.pruner)
            for name in (self.pruner[0] if self.pruner else ())
        }
        return {
            "case": self.name,
            "median_seconds": statistics.median(self.seconds),
            "iqr_seconds": spread(self.seconds),
            "ratio": statistics.median(self.ratios),
            "iqr_ratio": spread(self.ratios),
            "theory": self.theory,
            "pruner_seconds": sum(parts.values()) if self.pruned else None,
            "pruner_parts": parts,
            "decode_seconds": step,
            "iqr_decode_seconds": spread(self.steps) if self.steps else None,
            "kv_bytes": self.kv_bytes,
            "peak_bytes": self.peak_bytes,
            "call_bytes": self.call_bytes,
            "bit_identical": None if self.pruned else self.identical,
            "seconds": self.seconds,
        }


@dataclass
class BenchPoint:
    """The cases measured at one batch size and prompt, dense first."""

    batch: int
    prompt: PromptSize
    tokens: int
    cases: list[Case]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        prompt = {**asdict(self.prompt), "tokens": self.tokens}
        cases = [case.to_dict() for case in self.cases]
        return {"batch": self.batch, "prompt": prompt, "cases": cases}


def run_bench(plan: BenchPlan, tick: Tick = lambda name: None) -> list[BenchPoint]:
    """Measure generate(), the cases taking turns.

    Args:
        plan: what to measure.
        tick: called after each step with its name.

    Returns:
        One point per batch size and prompt: dense, the three cases that must cost nothing, then
        one case per method.
    """
    plan.check()
    model = make_model(plan.shape, dtype=plan.dtype, attention=plan.attention, device=plan.device)
    tick("model")
    return [_measure(plan, model, batch, prompt, tick) for batch, prompt in plan.points()]


def _measure(
    plan: BenchPlan, model: nn.Module, batch: int, prompt: PromptSize, tick: Tick
) -> BenchPoint:
    tokens = prompt.token_map()
    ids = draw_ids(model, batch, tokens.length)
    cases = _cases(plan, model, TokenMap.batch([tokens] * batch))
    dense = cases[0]
    reference: Tensor | None = None
    for round_index in range(plan.warm_up + plan.repeats):
        if round_index == plan.warm_up:
            for case in cases:
                case.forget()
        # Each round has another order, so that no case always follows the same one.
        shuffled = random.Random(round_index).sample(cases, len(cases))
        for case in cases if reference is None else shuffled:
            logits = _run(plan, model, ids, case, clocked=case.pruned and not plan.slow_clock)
            reference = logits if reference is None else reference
            case.identical &= torch.equal(logits, reference)
            tick(case.name)
        for case in cases:
            case.ratios.append(case.seconds[-1] / dense.seconds[-1])
    for case in cases:
        if case.pruned and plan.slow_clock:
            once = replace(case, seconds=[], steps=[], pruner=[])
            _run(replace(plan, new_tokens=1), model, ids, once, clocked=True)
            case.pruner = once.pruner
            tick(f"pruner alone, {case.name}")
    return BenchPoint(batch, prompt, tokens.length, cases)


def _cases(plan: BenchPlan, model: nn.Module, tokens: TokenMap) -> list[Case]:
    """Dense, the three cases without a cut, and the methods."""
    configs = plan.configs()
    some = next(iter(configs.values()), FastAVConfig())
    cases = [Case("dense")]
    if plan.idle:
        none = FastAVConfig(method="none")
        config = getattr(model, "config", None)
        cases += [
            Case("dense, bound by an earlier cache", functools.partial(_bind, model, some)),
            Case("dense, attached with method none", functools.partial(attach, model, none)),
            Case(
                "dense, attached, cache of the caller",
                functools.partial(attach, model, some),
                functools.partial(DynamicCache, config=config),
            ),
        ]
    for method, settings in configs.items():
        make = functools.partial(FastAVCache, settings, tokens)
        cases.append(Case(method, cache=make, pruned=True))
        if plan.peers and method in PEERS:
            twice = functools.partial(run_layer_twice, model) if method == "fastv" else _nothing
            make = functools.partial(FastAVCache, published(settings), tokens)
            cases.append(Case(f"{method} {AS_PUBLISHED}", twice, make, pruned=True))
    return cases


def _bind(model: nn.Module, config: FastAVConfig) -> None:
    """Use the model with a FastAVCache once, on a short prompt."""
    short = TokenMap.from_spans(16, video=[(2, 12)])
    cache = FastAVCache(config.replace(min_media_tokens=1), short)
    model.generate(  # type: ignore[operator]
        **_inputs(draw_ids(model, 1, 16)), **cache_argument(cache), max_new_tokens=1
    )


def _inputs(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _run(plan: BenchPlan, model: nn.Module, ids: Tensor, case: Case, clocked: bool) -> Tensor:
    """One timed generate(), the pruner `clocked` within it; returns the first token's logits."""
    detach(model)
    state = case.prepare()
    cache = case.cache()
    forget_peak_memory(plan.device)
    held_before = peak_memory(plan.device)
    clock = PrunerClock(plan.device)
    if clocked and isinstance(cache, FastAVCache):
        cache.fastav_request.listener = clock
    run = run_once(model, _inputs(ids), cache=cache, max_new_tokens=plan.new_tokens)
    if clocked:
        case.pruner.append(clock.spent)
    case.seconds.append(run.seconds)
    case.steps += run.step_seconds
    peak = peak_memory(plan.device)
    if peak is not None and held_before is not None:
        case.peak_bytes = max(case.peak_bytes or 0, peak)
        case.call_bytes = max(case.call_bytes or 0, peak - held_before)
    if case.pruned:
        case.theory = run.cache.report().flops_ratio
    # Includes decoded tokens, for dense and pruned alike.
    case.kv_bytes = run.kv_bytes
    detach(model)
    if isinstance(state, RemovableHandle):
        state.remove()
    return run.logits[0]


def describe(plan: BenchPlan, points: Sequence[BenchPoint]) -> dict[str, Any]:
    """Everything about a run as plain JSON data."""
    return {
        "shape": plan.shape,
        "dtype": plan.dtype,
        "attention": plan.attention,
        "device": plan.device,
        "repeats": plan.repeats,
        "warm_up": plan.warm_up,
        "new_tokens": plan.new_tokens,
        "overrides": {**find_shape(plan.shape).overrides, **plan.overrides},
        "machine": machine(plan.device),
        "points": [point.to_dict() for point in points],
    }
