"""One run of an arena: every question under every setting, each beside a random control."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastav_plugin.analysis import DENSE
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import FastAVError
from fastav_plugin.lab.arenas.arena import Arena, Question
from fastav_plugin.lab.arenas.control import RandomAsMany, counts_by_cut
from fastav_plugin.lab.arenas.log import OutcomeLog
from fastav_plugin.lab.arenas.measure import Dense, Outcome, answer_dense, answer_pruned
from fastav_plugin.lab.arenas.prefix import Prefixes
from fastav_plugin.lab.arenas.setting import Setting


@dataclass(frozen=True)
class Wanted:
    """A setting of a run.

    Attributes:
        setting: what is pruned.
        second: whether the follow-up is asked.
    """

    setting: Setting
    second: bool = False


@dataclass
class Found:
    """What a run gave.

    Attributes:
        questions: all that were asked.
        dense: outcome of each question by its name.
        pruned: outcomes by question and digest, of questions that dense answers.
        controls: of the random control beside each of them, likewise.
        failed: by label why a setting could not be followed.
    """

    questions: Sequence[Question]
    dense: dict[str, Outcome] = field(default_factory=dict)
    pruned: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    controls: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def run_arena(
    arena: Arena,
    questions: Sequence[Question],
    wanted: Sequence[Wanted],
    log: OutcomeLog,
    tick: Callable[[str], None] = lambda name: None,
) -> Found:
    """Answer questions under settings; what the log holds is not asked again.

    Questions that dense does not answer are asked under no setting.

    Args:
        arena: model and tokenizer.
        questions: in order.
        wanted: settings; equal ones are answered once.
        log: outcomes so far, and where new ones are written.
        tick: called with the label of each setting after each question.
    """
    found = Found(questions)
    prefixes = Prefixes(arena.model)
    for question in questions:
        asked = _Asked(arena, question, log, prefixes, any(each.second for each in wanted))
        found.dense[question.name] = asked.outcome
        for each in wanted:
            label = each.setting.spec.label
            if asked.outcome.right and label not in found.failed:
                key = question.name, each.setting.digest
                try:
                    found.pruned[key], found.controls[key] = asked.under(each)
                except FastAVError as error:
                    found.failed[label] = str(error)
            tick(label)
    return found


class _Asked:
    """One question; dense answers it anew only if something is to be compared with it."""

    def __init__(
        self,
        arena: Arena,
        question: Question,
        log: OutcomeLog,
        prefixes: Prefixes,
        second: bool,
    ) -> None:
        self._arena, self._question, self._log, self._second = arena, question, log, second
        self._prefixes = prefixes
        self._dense: Dense | None = None
        known = log.get(question.name, DENSE, second and question.follow_up is not None)
        if known is None:
            known = self._reference().outcome
            log.append(question.name, DENSE, DENSE, known)
        self.outcome = known

    def _reference(self) -> Dense:
        if self._dense is None:
            arena = self._arena
            self._dense = answer_dense(
                arena.model, arena.tokenizer, self._question, self._second, self._prefixes
            )
        return self._dense

    def under(self, wanted: Wanted) -> tuple[Outcome, Outcome]:
        """The outcomes of a setting and of its control."""
        name, digest = self._question.name, wanted.setting.digest
        label = wanted.setting.spec.label
        second = wanted.second and self._question.follow_up is not None
        own = self._log.get(name, digest, second)
        control = self._log.get(name, f"random {digest}", second)
        if own is None or control is None:
            config = wanted.setting.config(self._question)
            own, control = self._compare(config, second)
            self._log.append(name, digest, label, own)
            self._log.append(name, f"random {digest}", f"random as {label}", control)
        return own, control

    def _compare(self, config: FastAVConfig, second: bool) -> tuple[Outcome, Outcome]:
        """Run a setting and its control, unless another setting had the same counts."""
        own, report = self._prune(config, second)
        counts = counts_by_cut(report)
        if all(each.visual + each.audio == 0 for each in counts.values()):
            return own, own  # nothing was cut, or all at once: there is nothing to draw
        drawn = f"drawn {_short_digest(sorted(counts.items()))}"
        name = self._question.name
        control = self._log.get(name, drawn, second)
        if control is None:
            hook = RandomAsMany(counts, seed=_seed(name))
            control, _ = self._prune(FastAVConfig(hooks=[hook]), second)
            self._log.append(name, drawn, "random", control)
        return own, control

    def _prune(self, config: FastAVConfig, second: bool) -> tuple[Outcome, Any]:
        arena = self._arena
        return answer_pruned(
            arena.model,
            arena.tokenizer,
            self._question,
            config,
            self._reference(),
            second,
            self._prefixes,
        )


def _seed(name: str) -> int:
    """A number below 2 ** 63 from the name of a question."""
    return int(_short_digest(name), 16) >> 1


def _short_digest(value: Any) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()[:16]
