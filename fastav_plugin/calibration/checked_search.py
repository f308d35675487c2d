"""The choice among settings on some prompts, and the check of what was chosen on others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastav_plugin.analysis.comparison import Tick
from fastav_plugin.calibration.candidates import Candidate
from fastav_plugin.calibration.data import PromptSource, Split
from fastav_plugin.calibration.fidelity import Fidelity, FidelitySearch, Measure, Tally
from fastav_plugin.calibration.plan import CalibrationPlan
from fastav_plugin.evaluation.sample import move_inputs

Answers = list[dict[int, Fidelity]]


@dataclass
class CheckedSearch:
    """Finds the cheapest candidate within the limit that stays within it on other prompts too.

    The cheapest of many is chosen by the prompts that measure it, so its KL there is optimistic,
    and a part of the limit is held back. It is measured again on the prompts of the check; if
    their interval exceeds the limit, the next cheapest is tried. The more were rejected, the more
    the check is part of the choice, so their number is reported with what it measured.

    Attributes:
        parts: which prompts are for the choice, and which for the check.
        answers: of the choice so far; added to.
        checks: of the check so far, by candidate; added to.
        chosen: the candidate, None if none passed.
        checked: what the check measured of it, None without prompts for it.
    """

    candidates: Sequence[Candidate]
    source: PromptSource
    parts: Split
    plan: CalibrationPlan
    answers: Answers
    checks: dict[int, Answers]
    measure: Measure
    chosen: int | None = None
    checked: Tally | None = None

    def __post_init__(self) -> None:
        limit = self.plan.chosen_within
        self.search = self._search(self.candidates, self.parts.fidelity, self.answers, limit)

    def run(self, model: Any, save: Callable[[], None], tick: Tick) -> None:
        """Measure what is not measured yet.

        `save` is called after each prompt, `tick` for each of both parts, measured now or before.
        """
        # The number of groups and checks is not known in advance: the last tick is for the end.
        left = iter(range(len(self.parts.fidelity) + len(self.parts.check) - 1))

        def step(name: str) -> None:
            if next(left, None) is not None:
                tick(name)

        def done(name: str) -> None:
            save()
            step(name)

        for _ in range(len(self.search.answers) + sum(map(len, self.checks.values()))):
            step("settings")
        for index in self.checks:
            self._check(index, model, done)
        while True:
            self._measure(self.search, self.parts.fidelity, model, done)
            self.chosen = self.search.cheapest()
            if self.chosen is None or self._check(self.chosen, model, done):
                break
        for _ in left:
            tick("settings")
        tick("settings")

    def _search(
        self,
        candidates: Sequence[Candidate],
        prompts: Sequence[int],
        answers: Answers,
        limit: float,
    ) -> FidelitySearch:
        media = [self.source.media[index] for index in prompts]
        supported = bool(self.plan.margin)
        return FidelitySearch(candidates, media, limit, self.plan.full, supported, answers)

    def _measure(
        self, search: FidelitySearch, prompts: Sequence[int], model: Any, done: Tick
    ) -> None:
        while (step := search.next_step()) is not None:
            number, indexes = step
            inputs = move_inputs(self.source.inputs(prompts[number]), model)
            configs = [self.plan.config(**search.candidates[i].fields()) for i in indexes]
            found = self.measure(model, inputs, configs, self.plan.tokens)
            search.answers.append(dict(zip(indexes, found, strict=True)))
            done(f"{len(indexes)} of {len(self.search.candidates)} settings")

    def _check(self, index: int, model: Any, done: Tick) -> bool:
        """Measure one candidate on the prompts of the check; reject it if it fails there."""
        prompts = self.parts.check
        if not prompts:
            return True
        answers = self.checks.setdefault(index, [])
        limit = self.plan.max_kl
        check = self._search([self.search.candidates[index]], prompts, answers, limit)
        self._measure(check, prompts, model, done)
        self.checked = check.tally(0)
        found = self.checked.kl_high if self.plan.margin else self.checked.kl
        passed = self.checked.prompts == len(prompts) and found <= limit
        if not passed:
            self.search.rejected.add(index)
        return passed
