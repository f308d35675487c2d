"""How far each of many settings is from dense, over many prompts, and which is the cheapest."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.config import FastAVConfig
from fastav_plugin.evaluation.answers import divergence
from fastav_plugin.evaluation.bootstrap import Interval, bootstrap_mean

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
        kl_low: lower end of its bootstrap interval.
        kl_high: upper end.
        agreement: share of tokens on which both are of one mind.
        flops_ratio: mean prefill FLOPs as a share of dense.
        tokens: mean tokens per layer.
        uncut: prompts of which nothing was cut.
    """

    prompts: int
    kl: float
    kl_low: float
    kl_high: float
    agreement: float
    flops_ratio: float
    tokens: float
    uncut: int


class FidelitySearch:
    """Tries candidates on prompt after prompt, until the cheapest within a limit is found.

    KL is heavy-tailed: a few prompts decide the mean. So it is the upper end of the mean's
    bootstrap interval over whole groups that must stay within the limit.

    First every candidate is tried on a few prompts. Then groups of candidates, those of the fewest
    FLOPs on these first, are tried on all the others, until a group holds one that stays within
    the limit. Where the few are not like the others, one of a later group may be cheaper.
    KL is never negative, so a candidate whose sum has passed `max_kl` times all prompts has a mean
    that can only fail, and is tried no more.

    Args:
        candidates: settings, in a fixed order.
        groups: of each prompt; those of one group, the same media, are resampled together.
        max_kl: highest mean KL allowed, in nats, and upper end of its interval.
        full: tries every candidate on every prompt.

    Attributes:
        answers: what was found in each step so far; give it those of an earlier run to go on.
        rejected: candidates that are not to be chosen, whatever was found.
    """

    #: Prompts that every candidate is tried on, and how many candidates are tried on together.
    SCREENING, GROUP = 8, 16

    def __init__(
        self,
        candidates: Sequence[Candidate],
        groups: Sequence[Hashable],
        max_kl: float,
        *,
        full: bool = False,
    ) -> None:
        self.candidates = list(candidates)
        self.answers: list[dict[int, Answer]] = []
        self.rejected: set[int] = set()
        self.max_kl = max_kl
        self._groups = list(groups)
        self._prompts = len(self._groups)
        self._full = full
        self._screening = self._prompts if full else min(self.SCREENING, self._prompts)

    def next_step(self) -> tuple[int, list[int]] | None:
        """The prompt to try next, by number, and the candidates to try on it; None at the end.

        It follows from the answers alone, so a run that was stopped takes the same steps.
        """
        everyone = range(len(self.candidates))
        if len(self.answers) < self._screening:
            standing = [index for index in everyone if self._stands(index)]
            return (len(self.answers), standing) if standing else None
        screened = [index for index in everyone if self._stands(index, self._screening)]
        screened.sort(key=self._screened_flops)
        while screened:
            # Settings of equal cost are compared by their KL, so they go together.
            last = self._screened_flops(screened[: self.GROUP][-1])
            group = [index for index in screened if self._screened_flops(index) <= last]
            screened = screened[len(group) :]
            standing = [index for index in group if self._stands(index)]
            # Those still standing were tried together, on the same prompts.
            if standing and (tried := len(self._own(standing[0]))) < self._prompts:
                return tried, standing
            if any(self._passes(index) for index in standing):
                return None
        return None

    def _own(self, index: int, stop: int | None = None) -> list[Answer]:
        return [answers[index] for answers in self.answers[:stop] if index in answers]

    def _stands(self, index: int, stop: int | None = None) -> bool:
        """Whether a candidate may still pass, after the first steps or all so far."""
        return self._full or self._within(index, stop)

    def _within(self, index: int, stop: int | None = None) -> bool:
        total = sum(answer[0] for answer in self._own(index, stop))
        return total <= self.max_kl * self._prompts

    def _passes(self, index: int) -> bool:
        """Whether a candidate was tried on every prompt and stayed within the limit."""
        whole = len(self._own(index)) == self._prompts and index not in self.rejected
        return whole and self._within(index) and self._interval(index).high <= self.max_kl

    def _interval(self, index: int) -> Interval:
        values = [answer[0] for answer in self._own(index)]
        return bootstrap_mean(values, self._groups[: len(values)])

    def _screened_flops(self, index: int) -> float:
        own = self._own(index, self._screening)
        return sum(answer[2] for answer in own) / len(own)

    def try_on(
        self,
        indexes: Sequence[int],
        model: Any,
        inputs: Mapping[str, Any],
        base: Mapping[str, Any],
        tokens: int,
    ) -> None:
        """Measure some candidates on one prompt.

        Args:
            indexes: of the candidates.
            model: in evaluation mode.
            inputs: of generate(), batch size 1.
            base: other fields of FastAVConfig.
            tokens: how many tokens of the dense answer to compare.
        """
        run = run_once(model, inputs, max_new_tokens=tokens)
        dense, ids = torch.cat(run.logits).cpu(), run.new_ids[0]
        found: dict[int, Answer] = {}
        for index in indexes:
            config = FastAVConfig(**{**base, **self.candidates[index].fields()})
            run = run_once(model, inputs, config, forced=ids)
            pruned, report = torch.cat(run.logits).cpu(), run.report(model, inputs)
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
        own = self._own(index)
        _, agreement, flops, tokens, cut = (sum(column) for column in zip(*own, strict=True))
        count, kl = len(own), self._interval(index)
        return Tally(
            prompts=count,
            kl=kl.mean,
            kl_low=kl.low,
            kl_high=kl.high,
            agreement=agreement / count,
            flops_ratio=flops / count,
            tokens=tokens / count,
            uncut=count - int(cut),
        )

    def cheapest(self) -> int | None:
        """The candidate of the fewest FLOPs whose KL stays within the limit; None without one.

        Among equals that of the lower KL, then the first.
        """
        everyone = range(len(self.candidates))
        passed = [index for index in everyone if self._passes(index)]
        tallies = {index: self.tally(index) for index in passed}
        return min(passed, key=lambda i: (tallies[i].flops_ratio, tallies[i].kl, i), default=None)
