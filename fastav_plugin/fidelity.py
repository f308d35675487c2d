"""How far each of many settings is from dense, over many prompts, and which is the cheapest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from fastav_plugin.attach import detach
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.evaluate import divergence

#: What is known of one setting on one prompt: KL, agreement, share of FLOPs, mean tokens per
#: layer, and whether anything was cut.
Answer = tuple[float, float, float, float, bool]


@dataclass(frozen=True)
class Candidate:
    """A setting to try.

    Attributes:
        layer: of the global cut.
        rule: of the global cut, for each modality.
        drop_ratio: FastAV's P.
        origin: how the rule was found: its family and the threshold on the mass.
    """

    layer: int
    rule: dict[str, str]
    drop_ratio: float
    origin: str

    def fields(self) -> dict[str, Any]:
        """Its fields of FastAVConfig."""
        return {
            "global_layer": self.layer,
            "global_rule": dict(self.rule),
            "fine_drop_ratio": self.drop_ratio,
        }


@dataclass
class Tally:
    """Means of one candidate over the prompts it was tried on.

    Attributes:
        prompts: how many.
        kl: mean KL(dense || pruned) in nats.
        agreement: share of tokens on which both are of one mind.
        flops_ratio: mean prefill FLOPs as a share of dense.
        tokens: mean tokens per layer.
        uncut: prompts of which nothing was cut.
    """

    prompts: int
    kl: float
    agreement: float
    flops_ratio: float
    tokens: float
    uncut: int


class FidelitySearch:
    """Tries candidates on prompt after prompt, and drops those that cannot meet the limit.

    KL is never negative, so a candidate whose sum has passed `max_kl` times all prompts can only
    fail, and is tried no more.

    Args:
        candidates: settings, in a fixed order.
        prompts: how many there will be.
        max_kl: highest mean KL allowed, in nats.
        drop: False tries every candidate on every prompt.
    """

    def __init__(
        self, candidates: Sequence[Candidate], prompts: int, max_kl: float, *, drop: bool = True
    ) -> None:
        self.candidates = list(candidates)
        self.answers: list[dict[int, Answer]] = []
        self._prompts = prompts
        self._max_kl = max_kl
        self._drop = drop

    @property
    def standing(self) -> list[int]:
        """Candidates that are still tried."""
        limit = self._max_kl * self._prompts
        everyone = range(len(self.candidates))
        if not self._drop:
            return list(everyone)
        sums = dict.fromkeys(everyone, 0.0)
        for answers in self.answers:
            for index in list(sums):
                if index in answers:
                    sums[index] += answers[index][0]
                else:
                    del sums[index]
        return [index for index, total in sums.items() if total <= limit]

    def try_all(
        self, model: Any, inputs: Mapping[str, Any], base: Mapping[str, Any], tokens: int
    ) -> None:
        """Measure every candidate still standing on one prompt.

        Args:
            model: in evaluation mode.
            inputs: of generate(), batch size 1.
            base: other fields of FastAVConfig.
            tokens: how many tokens of the dense answer to compare.
        """
        dense, ids, _ = _generate(model, inputs, None, tokens)
        found: dict[int, Answer] = {}
        for index in self.standing:
            config = FastAVConfig(**{**base, **self.candidates[index].fields()})
            pruned, _, cache = _generate(model, inputs, config, tokens, ids)
            report = cache.report()
            counts = report.tokens_per_layer
            found[index] = (
                divergence(dense, pruned) / len(dense),
                float((dense.argmax(dim=1) == pruned.argmax(dim=1)).double().mean()),
                report.flops_ratio,
                sum(counts) / len(counts),
                report.reason is None,
            )
        self.answers.append(found)

    def tally(self, index: int) -> Tally:
        """What is known of one candidate."""
        own = [answers[index] for answers in self.answers if index in answers]
        kl, agreement, flops, tokens, cut = (sum(column) for column in zip(*own, strict=True))
        count = len(own)
        return Tally(
            count, kl / count, agreement / count, flops / count, tokens / count, count - int(cut)
        )

    def cheapest(self) -> int | None:
        """The candidate of the fewest FLOPs with a mean KL of at most `max_kl`; None without one.

        Among equals that of the lower KL, then the first.
        """
        complete = [i for i in self.standing if self.tally(i).prompts == len(self.answers)]
        tallies = {index: self.tally(index) for index in complete}
        passed = [index for index in complete if tallies[index].kl <= self._max_kl]
        return min(
            passed, key=lambda i: (tallies[i].flops_ratio, tallies[i].kl, i), default=None
        )


class _Forced(LogitsProcessor):
    """Lets generate() say the dense answer, whatever it would say by itself."""

    def __init__(self, ids: Tensor, prompt: int) -> None:
        self._ids = ids
        self._prompt = prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wanted = self._ids[input_ids.shape[1] - self._prompt]
        return torch.full_like(scores, float("-inf")).index_fill_(1, wanted[None], 0.0)


def _generate(
    model: Any,
    inputs: Mapping[str, Any],
    config: FastAVConfig | None,
    tokens: int,
    forced: Tensor | None = None,
) -> tuple[Tensor, Tensor, Any]:
    """Logits [N, vocabulary] on the CPU, token ids [N], and the cache."""
    detach(model)
    extra: dict[str, Any] = {}
    if config is not None:
        extra["past_key_values"] = FastAVCache(config)
    prompt = inputs["input_ids"].shape[1]
    if forced is not None and tokens > 1:
        extra["logits_processor"] = LogitsProcessorList([_Forced(forced, prompt)])
    try:
        output = model.generate(
            **inputs,
            **extra,
            max_new_tokens=tokens,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    finally:
        detach(model)
    logits = torch.stack([step[0] for step in output.logits]).cpu()
    return logits, output.sequences[0, prompt:], output.past_key_values
