"""One greedy generate(), dense or pruned: what it answered, how long it took, what it holds."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from fastav_plugin.analysis import DENSE
from fastav_plugin.attach import detach
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.model_overrides import find_override
from fastav_plugin.report import PruningReport, make_report
from fastav_plugin.upstream.arguments import cache_argument, cache_in


@dataclass(frozen=True)
class Run:
    """What one generate() gave."""

    new_ids: Tensor  # int64 [B, N]
    logits: tuple[Tensor, ...]  # the model's own before each new token: N of [B, vocabulary]
    seconds: float  # until the first new token, encoders and prefill included
    step_seconds: list[float]  # between one new token and the next, N - 1 of them
    cache: Any  # as generate() left it

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values held at the end, those of decoded tokens included."""
        return sum(self.kv_bytes_per_layer)

    @property
    def kv_bytes_per_layer(self) -> list[int]:
        """The same, layer by layer."""
        return [int(layer.keys.nbytes + layer.values.nbytes) for layer in self.cache.layers]

    def report(self, model: nn.Module, inputs: Mapping[str, Any]) -> PruningReport:
        """The account of the prefill of one prompt; of a dense one with method "dense"."""
        if isinstance(self.cache, FastAVCache):
            return self.cache.report()
        head: Any = unwrap(model)
        override, mask = find_override(head), inputs.get("attention_mask")
        tokens = override.token_map(head.config, inputs["input_ids"], mask, dict(inputs))
        real = torch.where(tokens.valid, torch.arange(tokens.length).to(tokens.valid.device), -1)
        return make_report(
            method=DENSE,
            token_map=tokens,
            positions=[real] * len(override.parts(head).layers),
            cost=override.cost(head.config),
            kv_bytes=self.kv_bytes,
            dense_kv_bytes=self.kv_bytes,
            reason=None,
            row=0,
        )


def run_once(
    model: nn.Module,
    inputs: Mapping[str, Any],
    config: FastAVConfig | None = None,
    *,
    cache: Any = None,
    max_new_tokens: int = 1,
    forced: Tensor | None = None,
    **settings: Any,
) -> Run:
    """Run generate() once, greedily.

    Args:
        model: in evaluation mode, as it is: what is attached to it takes part.
        inputs: of generate().
        config: what to prune; the model is detached afterwards. None for nothing.
        cache: given to generate() instead of one made of `config`; detaching is up to the caller.
        max_new_tokens: most new tokens.
        forced: int64 [N], the new tokens, whatever the model's own would be.
        settings: further arguments of generate().
    """
    head: Any = unwrap(model)
    if config is not None:
        cache = FastAVCache(config)
    if forced is not None:
        only = _Forced(forced, inputs["input_ids"].shape[1])
        settings |= {"logits_processor": LogitsProcessorList([only])}
        max_new_tokens = len(forced)
    clock = _Clock()
    start = now(head.device)
    try:
        output = head.generate(
            **inputs,
            **({} if cache is None else cache_argument(cache)),
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            output_logits=True,
            return_dict_in_generate=True,
            stopping_criteria=StoppingCriteriaList([clock]),
            **settings,
        )
    finally:
        if config is not None:
            detach(model)
    times = clock.times
    return Run(
        new_ids=output.sequences[:, inputs["input_ids"].shape[1] :],
        logits=output.logits,
        seconds=times[0] - start,
        step_seconds=[later - earlier for earlier, later in zip(times, times[1:], strict=False)],
        cache=cache_in(output),
    )


def now(device: torch.device | str = "cpu") -> float:
    """Seconds of a clock that waits for the device."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class _Clock(StoppingCriteria):
    """Notes when each new token is there, and stops nothing."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self.times.append(now(input_ids.device))
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class _Forced(LogitsProcessor):
    """Leaves one token at each step."""

    def __init__(self, ids: Tensor, prompt: int) -> None:
        self._ids, self._prompt = ids, prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wanted = self._ids[input_ids.shape[1] - self._prompt].to(scores.device)
        return torch.full_like(scores, float("-inf")).index_fill_(1, wanted[None], 0.0)
