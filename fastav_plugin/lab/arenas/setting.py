"""Settings of the tables, and the value of each at which it costs what the table says."""

import hashlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.attach import detach
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import FastAVError
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.lab.arenas.arena import Arena, Question
from fastav_plugin.lab.papers.setting import CLOSE, find_value
from fastav_plugin.model_overrides import find_override
from fastav_plugin.planning.dry_run import plan_tokens
from fastav_plugin.tokens import TokenMap

#: How far from the tokens asked for a setting may be, as a share of dense; else it is left out.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Spec:
    """A row of a table before its free parameter is found.

    Attributes:
        label: in the table.
        config: what is pruned, of the free parameter's value; a larger one keeps more tokens.
        budget: share of dense's tokens of an average layer; None without a free parameter.
        values: ends of an interval, or all possible values.
        measured: whether the counts depend on the content of a prompt.
        of_question: what is pruned for one question, where a question decides it.
    """

    label: str
    config: Callable[[float], FastAVConfig]
    budget: float | None = None
    values: Sequence[float] = (0.005, 1.0)
    measured: bool = False
    of_question: Callable[[float, Question], FastAVConfig] | None = None


@dataclass(frozen=True)
class Setting:
    """A row with its free parameter found.

    Attributes:
        spec: what it was made of.
        value: of the free parameter; 0 without one.
        digest: identifies what is pruned, in logs; equal settings are answered once.
        hooks: what is pruned, in words.
    """

    spec: Spec
    value: float
    digest: str
    hooks: str

    def config(self, question: Question) -> FastAVConfig:
        """What is pruned for one question."""
        if self.spec.of_question is not None:
            return self.spec.of_question(self.value, question)
        return self.spec.config(self.value)


@dataclass(frozen=True)
class Table:
    """Rows that are compared.

    Attributes:
        key: short name.
        title: what is compared.
        specs: the rows.
        second: whether a second question on the same media is asked as well.
    """

    key: str
    title: str
    specs: Sequence[Spec]
    second: bool = False


class Sizes:
    """The prompts of some questions, on which the tokens of settings are counted.

    Attributes:
        layers: decoder layers L of the model.
        maps: a TokenMap for each question.
        dense: tokens of an average layer without pruning, in the mean over the prompts.
    """

    def __init__(self, arena: Arena, questions: Sequence[Question]) -> None:
        head: Any = unwrap(arena.model)
        override = find_override(head)
        self._model, self._questions = arena.model, questions
        self.layers = len(override.parts(head).layers)
        self.maps = [_token_map(override, head, question) for question in questions]
        self.dense = statistics.fmean(tokens.length for tokens in self.maps)

    def plan(self, config: FastAVConfig) -> float:
        """Tokens of an average layer by dry runs."""
        counts = [plan_tokens(config, tokens, self.layers)[0][0] for tokens in self.maps]
        return statistics.fmean(map(statistics.fmean, counts))

    def measure(self, config: FastAVConfig) -> float:
        """The same by prefills."""
        found = []
        for question in self._questions:
            cache = FastAVCache(config, tokens=question.tokens)
            try:
                run_once(self._model, question.inputs, cache=cache)
                found.append(statistics.fmean(cache.report().tokens_per_layer))
            finally:
                detach(self._model)
        return statistics.fmean(found)


def _token_map(override: Any, head: Any, question: Question) -> TokenMap:
    if question.tokens is not None:
        return question.tokens
    inputs = dict(question.inputs)
    mask = inputs.get("attention_mask")
    found: TokenMap = override.token_map(head.config, inputs["input_ids"], mask, inputs)
    return found


def find_settings(
    table: Table, sizes: Sizes, tick: Callable[[str], None] = lambda name: None
) -> tuple[list[Setting], dict[str, str]]:
    """The settings of a table, and why some rows are left out.

    Args:
        table: its rows.
        sizes: prompts that a value is found on.
        tick: called with the label of each row that is done.

    Returns:
        Settings in the order of the rows, and by label the reason why there is none: the model
        cannot follow it, or no value of its parameter costs what is asked.
    """
    found, left_out = [], {}
    for spec in table.specs:
        try:
            value = _value(spec, sizes)
            config = spec.config(value)
            hooks = ", ".join(map(repr, method_hooks(config)))
            sizes.plan(config)  # a layer that the model lacks is refused here
        except FastAVError as error:
            left_out[spec.label] = str(error)
        else:
            digest = hashlib.sha256(f"{hooks} {config.positions}".encode()).hexdigest()[:16]
            found.append(Setting(spec, value, digest, hooks))
        tick(spec.label)
    return found, left_out


class _OutOfReach(FastAVError, ValueError):
    """No value of a parameter costs what is asked."""


def _value(spec: Spec, sizes: Sizes) -> float:
    if spec.budget is None:
        return 0.0
    average = sizes.measure if spec.measured else sizes.plan
    wanted = spec.budget * sizes.dense
    # Counts that follow the prompt are prefilled for, and differ from prompt to prompt anyway.
    close = TOLERANCE / 2 * sizes.dense if spec.measured else CLOSE
    value, tokens = find_value(spec.config, spec.values, average, wanted, close)
    if abs(tokens - wanted) > TOLERANCE * sizes.dense:
        raise _OutOfReach(
            f"The nearest it comes is {100 * tokens / sizes.dense:.0f} % of dense's tokens."
        )
    return value


def describe(settings: Sequence[Setting]) -> Mapping[str, Any]:
    """By label what is pruned, and the value found."""
    return {s.spec.label: {"hooks": s.hooks, "value": s.value} for s in settings}
