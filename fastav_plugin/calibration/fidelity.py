"""How far each of many settings is from dense, over many prompts, and which is the cheapest."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.calibration.candidates import Candidate
from fastav_plugin.config import FastAVConfig
from fastav_plugin.evaluation.answers import divergence
from fastav_plugin.evaluation.bootstrap import Interval, bootstrap_mean


class Fidelity(NamedTuple):
    """How one setting compares with dense on one prompt.

    Attributes:
        kl: mean KL(dense || pruned) over the compared tokens, in nats.
        agreement: share of these tokens that are the most likely ones of both.
        flops_ratio: prefill FLOPs as a share of dense.
        tokens: mean tokens per layer.
        cut: whether anything was cut.
    """

    kl: float
    agreement: float
    flops_ratio: float
    tokens: float
    cut: bool


#: Measures some configs on the inputs of one prompt, over so many tokens of the dense answer.
Measure = Callable[[Any, Mapping[str, Any], Sequence[FastAVConfig], int], list[Fidelity]]


def measure_fidelity(
    model: Any,
    inputs: Mapping[str, Any],
    configs: Sequence[FastAVConfig],
    tokens: int,
    *,
    part: Callable[[int, int], None] = lambda done, of: None,
) -> list[Fidelity]:
    """Compare configs with dense on one prompt, all fed the tokens of the dense answer.

    `part` is called after each config with how many of them are done, and how many there are.
    """
    run = run_once(model, inputs, max_new_tokens=tokens)
    dense = torch.cat(run.logits).cpu()
    found = []
    for config in configs:
        forced = run_once(model, inputs, config, forced=run.new_ids[0])
        pruned, report = torch.cat(forced.logits).cpu(), forced.report(model, inputs)
        found.append(
            Fidelity(
                divergence(dense, pruned) / len(dense),
                float((dense.argmax(dim=1) == pruned.argmax(dim=1)).double().mean()),
                report.flops_ratio,
                sum(report.tokens_per_layer) / len(report.tokens_per_layer),
                report.reason is None,
            )
        )
        part(len(found), len(configs))
    return found


@dataclass
class Tally:
    """Means of the fields of `Fidelity` over the prompts that one candidate was tried on.

    The KL has the ends of its bootstrap interval; `uncut` counts prompts in which nothing was cut.
    """

    prompts: int
    kl: float
    kl_low: float
    kl_high: float
    agreement: float
    flops_ratio: float
    tokens: float
    uncut: int


@dataclass
class FidelitySearch:
    """Decides what to measure next, until the cheapest candidate within a limit is found.

    KL is heavy-tailed: a few prompts decide the mean. So it is the upper end of the mean's
    bootstrap interval over whole groups that must stay within the limit.

    First every candidate is tried on a few prompts. Then groups of candidates, those of the fewest
    FLOPs on these first, are tried on all the others, until a group holds one that stays within
    the limit. If the few prompts are not representative, a later group may hold a cheaper one.
    KL is never negative, so a candidate whose sum exceeds `max_kl` times the number of prompts
    must fail, and is not tried again.

    A few prompts miss rare failures, and the cheapest that passes is the likeliest to have some. So
    a candidate may have to be `supported`: one that is stricter must pass, too. The strictest
    of its rule needs none.

    Attributes:
        groups: of each prompt; those of one group, the same media, are resampled together.
        max_kl: highest mean KL allowed, in nats, and upper end of its interval.
        full: whether to try every candidate on every prompt.
        supported: whether a stricter candidate must pass as well.
        answers: by step, what was measured of each candidate tried; those of an earlier run to
            resume.
        rejected: candidates that must not be chosen, whatever was measured.
    """

    #: Prompts that every candidate is tried on, and candidates in a group.
    SCREENING, GROUP = 8, 16

    candidates: Sequence[Candidate]
    groups: Sequence[Hashable]
    max_kl: float
    full: bool = False
    supported: bool = False
    answers: list[dict[int, Fidelity]] = field(default_factory=list)
    rejected: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._prompts = len(self.groups)
        everyone = list(enumerate(self.candidates))
        self._stricter = [
            [index for index, other in everyone if self.supported and other.is_stricter(one)]
            for one in self.candidates
        ]
        self._screening = self._prompts if self.full else min(self.SCREENING, self._prompts)

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

    def _own(self, index: int, stop: int | None = None) -> list[Fidelity]:
        return [answers[index] for answers in self.answers[:stop] if index in answers]

    def _stands(self, index: int, stop: int | None = None) -> bool:
        """Whether a candidate may still pass, after the first steps or all so far."""
        return self.full or self._within(index, stop)

    def _within(self, index: int, stop: int | None = None) -> bool:
        total = sum(answer.kl for answer in self._own(index, stop))
        return total <= self.max_kl * self._prompts

    def _passes(self, index: int) -> bool:
        """Whether a candidate stayed within the limit, and one that supports it."""
        stricter = self._stricter[index]
        return self._stays(index) and (not stricter or any(map(self._stays, stricter)))

    def unsupported(self) -> int:
        """How many candidates stayed within the limit where no stricter one did."""
        everyone = range(len(self.candidates))
        return sum(self._stays(index) and not self._passes(index) for index in everyone)

    def _stays(self, index: int) -> bool:
        """Whether a candidate was tried on every prompt and stayed within the limit."""
        whole = len(self._own(index)) == self._prompts and index not in self.rejected
        return whole and self._within(index) and self._interval(index).high <= self.max_kl

    def _interval(self, index: int) -> Interval:
        values = [answer.kl for answer in self._own(index)]
        return bootstrap_mean(values, self.groups[: len(values)])

    def _screened_flops(self, index: int) -> float:
        own = self._own(index, self._screening)
        return sum(answer.flops_ratio for answer in own) / len(own)

    def tally(self, index: int) -> Tally:
        """Means of one candidate over the prompts it was tried on."""
        own = self._own(index)
        count = len(own)
        _, agreement, flops, tokens, cut = (sum(column) for column in zip(*own, strict=True))
        means = agreement / count, flops / count, tokens / count
        return Tally(count, *self._interval(index), *means, count - int(cut))

    def cheapest(self) -> int | None:
        """The candidate of the fewest FLOPs whose KL stays within the limit; None without one.

        Among equals that of the lower KL, then the first.
        """
        everyone = range(len(self.candidates))
        tallies = {index: self.tally(index) for index in everyone if self._passes(index)}
        return min(tallies, key=lambda i: (tallies[i].flops_ratio, tallies[i].kl, i), default=None)
