"""Prefill time of a model of random weights, dense and pruned in turns within one process."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.cache_utils import DynamicCache

from fastav_plugin.attach import attach, detach
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.plan import PromptSize
from fastav_plugin.prefill import Prefill
from fastav_plugin.tokens import TokenMap

#: VideoLLaMA2's rule of the FastAV paper.
RULE = {"video": "all", "audio": "first 10 tokens"}

#: layers, hidden, heads, key/value heads, MLP, vocabulary, tied embeddings
SHAPES: dict[str, tuple[int, int, int, int, int, int, bool]] = {
    "tiny": (8, 64, 4, 2, 128, 512, True),
    "qwen2-0.5b": (24, 896, 14, 2, 4864, 151936, True),
    "qwen2-1.5b": (28, 1536, 12, 2, 8960, 151936, True),
    "qwen2-7b": (28, 3584, 28, 4, 18944, 152064, False),
}

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}


def _nothing() -> None:
    """Leave the model as it is; pass no cache."""


@dataclass
class Case:
    """One way to run the same prompt, and what was measured of it.

    Attributes:
        name: what the table calls it.
        prepare: brings the untimed model into the case's state, from a detached one.
        cache: makes generate's `past_key_values`, or None.
        pruned: whether this case drops tokens; the others must give the dense bits.
        seconds: each measured time.
        ratios: each time over the dense time of the same round.
        theory: theoretical multiply-accumulates as a fraction of dense.
        pruner_seconds: time spent in the pruner's own code, in one further run.
        identical: whether the first token's logits equal the dense ones bit by bit.
    """

    name: str
    prepare: Callable[[], Any] = field(default_factory=lambda: _nothing)
    cache: Callable[[], Any] = field(default_factory=lambda: _nothing)
    pruned: bool = False
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    theory: float = 1.0
    pruner_seconds: float = 0.0
    identical: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "case": self.name,
            "median_seconds": statistics.median(self.seconds),
            "iqr_seconds": spread(self.seconds),
            "ratio": statistics.median(self.ratios),
            "iqr_ratio": spread(self.ratios),
            "theory": self.theory,
            "pruner_seconds": self.pruner_seconds if self.pruned else None,
            "bit_identical": None if self.pruned else self.identical,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        shape: a name of `SHAPES`.
        methods: methods to measure against dense.
        overrides: fields of FastAVConfig.
        prompt: size of the prompt.
        dtype: a name of `DTYPES`.
        repeats: measured rounds, after one warm-up round.
    """

    shape: str = "qwen2-0.5b"
    methods: Sequence[str] = ("fastav", "divprune", "fastav+divprune")
    overrides: dict[str, Any] = field(default_factory=dict)
    prompt: PromptSize = field(default_factory=PromptSize)
    dtype: str = "bfloat16"
    repeats: int = 5

    def check(self) -> None:
        """Refuse what cannot be measured, before anything is built.

        Raises:
            ConfigError: unknown shape or dtype, or a wrong setting.
        """
        if self.shape not in SHAPES:
            raise ConfigError(f"Unknown shape {self.shape!r}. Known: {', '.join(SHAPES)}.")
        if self.dtype not in DTYPES:
            raise ConfigError(f"Unknown dtype {self.dtype!r}. Known: {', '.join(DTYPES)}.")
        self.prompt.token_map()
        for method in self.methods:
            FastAVConfig.for_model(make_config(self.shape), method=method, **self.overrides)

    @property
    def steps(self) -> int:
        """Pieces of work that `run_bench` reports."""
        cases = 4 + len(self.methods)
        return 1 + cases * (1 + self.repeats) + len(self.methods)


def make_config(shape: str) -> Qwen2Config:
    """The configuration of a shape."""
    layers, hidden, heads, groups, width, vocabulary, tied = SHAPES[shape]
    return Qwen2Config(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        intermediate_size=width,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
    )


def make_model(shape: str, dtype: str = "bfloat16", seed: int = 0) -> Qwen2ForCausalLM:
    """A model of random weights, made in its dtype without a larger copy."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        build: Any = Qwen2ForCausalLM._from_config
        model: Qwen2ForCausalLM = build(make_config(shape), dtype=DTYPES[dtype])
    nn.Module.eval(model)
    return model


def run_bench(plan: Plan, tick: Callable[[str], None] = lambda name: None) -> list[Case]:
    """Measure the time to the first token of generate(), the cases taking turns.

    Args:
        plan: what to measure.
        tick: called after each piece of work with its name.

    Returns:
        Dense, the three cases that must cost nothing, then one per method.
    """
    plan.check()
    model = make_model(plan.shape, plan.dtype)
    tick("model")
    tokens = plan.prompt.token_map()
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(0, model.config.vocab_size, (1, tokens.length), generator=generator)
    configs = {
        method: FastAVConfig.for_model(model, method=method, **plan.overrides)
        for method in plan.methods
    }
    cases = _cases(model, tokens, configs)
    dense = cases[0]
    reference, _ = _run(model, input_ids, dense)
    tick(f"warm-up, {dense.name}")
    for case in cases[1:]:
        logits, cache = _run(model, input_ids, case)
        case.identical = torch.equal(logits, reference)
        if case.pruned:
            case.theory = cache.report().flops_ratio
        tick(f"warm-up, {case.name}")
    for round_index in range(plan.repeats):
        # Each round begins with another case, so that none always follows the same one.
        first = round_index % len(cases)
        for case in [*cases[first:], *cases[:first]]:
            _run(model, input_ids, case)
            tick(case.name)
        for case in cases:
            case.ratios.append(case.seconds[-1] / dense.seconds[-1])
    for case in cases:
        del case.seconds[0]
        if case.pruned:
            with _clock_on_pruner() as spent:
                _run(model, input_ids, case)
            case.seconds.pop()
            case.pruner_seconds = spent[0]
            tick(f"pruner alone, {case.name}")
    return cases


def _cases(
    model: Qwen2ForCausalLM, tokens: TokenMap, configs: dict[str, FastAVConfig]
) -> list[Case]:
    """Dense, the three cases without a cut, and the methods."""
    some = next(iter(configs.values()), FastAVConfig())
    cases = [
        Case("dense"),
        Case("dense, bound by an earlier cache", functools.partial(_bind, model, some)),
        Case(
            "dense, attached with method none",
            functools.partial(attach, model, FastAVConfig(method="none")),
        ),
        Case(
            "dense, attached, cache of the caller",
            functools.partial(attach, model, some),
            functools.partial(DynamicCache, config=model.config),
        ),
    ]
    for method, config in configs.items():
        make = functools.partial(FastAVCache, config, tokens)
        cases.append(Case(method, cache=make, pruned=True))
    return cases


def _bind(model: nn.Module, config: FastAVConfig) -> None:
    """Use the model with a FastAVCache once, on a short prompt."""
    short = TokenMap.from_spans(16, video=[(2, 12)])
    cache = FastAVCache(config.replace(min_media_tokens=1), short)
    _generate(model, torch.ones((1, 16), dtype=torch.int64), cache)


def _run(model: nn.Module, input_ids: Tensor, case: Case) -> tuple[Tensor, Any]:
    """One timed prefill; returns the first token's logits and the cache."""
    detach(model)
    case.prepare()
    cache = case.cache()
    start = time.perf_counter()
    output = _generate(model, input_ids, cache)
    case.seconds.append(time.perf_counter() - start)
    detach(model)
    return output.logits[0], output.past_key_values


def _generate(model: nn.Module, input_ids: Tensor, cache: Any) -> Any:
    return model.generate(  # type: ignore[operator]
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        past_key_values=cache,
        max_new_tokens=1,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )


@contextmanager
def _clock_on_pruner() -> Iterator[list[float]]:
    """Add up, in the list's one item, the time spent in the pruner's code during the block."""
    spent, depth = [0.0], [0]
    originals = {name: getattr(Prefill, name) for name in ("enter", "pick_entrance", "observe")}

    def clocked(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            depth[0] += 1
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                depth[0] -= 1
                if depth[0] == 0:
                    spent[0] += time.perf_counter() - start

        return call

    for name, method in originals.items():
        setattr(Prefill, name, clocked(method))
    try:
        yield spent
    finally:
        for name, method in originals.items():
            setattr(Prefill, name, method)


def spread(values: Sequence[float]) -> float:
    """Interquartile range; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def describe(plan: Plan, cases: Sequence[Case]) -> dict[str, Any]:
    """Everything about a run as plain JSON data."""
    return {
        "shape": plan.shape,
        "dtype": plan.dtype,
        "batch": 1,
        "threads": torch.get_num_threads(),
        "repeats": plan.repeats,
        "torch": torch.__version__,
        "prompt": {**asdict(plan.prompt), "tokens": plan.prompt.token_map().length},
        "overrides": plan.overrides,
        "cases": [case.to_dict() for case in cases],
    }
