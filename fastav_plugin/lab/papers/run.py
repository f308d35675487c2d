"""One run of the papers' suite: settings solved, questions answered, tables made."""

import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastav_plugin.analysis import DENSE
from fastav_plugin.analysis.comparison import Tick
from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.config import FastAVConfig
from fastav_plugin.evaluation.answers import answer_questions
from fastav_plugin.evaluation.answers_file import AnswerLog
from fastav_plugin.evaluation.records import Question, Record
from fastav_plugin.evaluation.sample import move_inputs
from fastav_plugin.hooks.controls import RandomPruning
from fastav_plugin.lab.papers.base import Base
from fastav_plugin.lab.papers.setting import PaperSetting, PaperTable, Solved, solve_all
from fastav_plugin.lab.papers.summary import facets_of, summarise_tables
from fastav_plugin.lab.papers.tables import suite
from fastav_plugin.lab.papers.tower_memo import towers_once
from fastav_plugin.lab.testbed.evaluation_source import make_source
from fastav_plugin.lab.testbed.needles import find_needle
from fastav_plugin.lab.testbed.tasks import CLIPS, TASKS, Item, held_out_items
from fastav_plugin.model_overrides import find_override
from fastav_plugin.planning.dry_run import plan_tokens

#: Clips from this seed on are never reported on and never trained on: a ratio is solved on them.
SELECTION_SEED = 100_000
#: Questions on which the cost of a setting is found whose counts follow the prompt.
SAMPLE = 18


@dataclass(frozen=True)
class Suite:
    """The tables of one model with every free parameter solved.

    Attributes:
        base: the model's own settings.
        solved: settings by name.
        tables: what is compared.
        same: for each setting the first equal one; equal settings are answered once.
    """

    base: Base
    solved: dict[str, Solved]
    tables: list[PaperTable]
    same: dict[str, str]

    def configs(self, question: Question) -> dict[str, FastAVConfig]:
        """What answers a question, by name."""
        return {
            name: draw_for(question, self.solved[name].config)
            for name in dict.fromkeys(self.same.values())
        }

    def facts(self) -> dict[str, Any]:
        """The settings as plain JSON data."""
        return {name: found.to_dict() for name, found in self.solved.items()}


def prepare_suite(
    model: Any,
    processor: Any,
    keywords: Mapping[str, Any],
    *,
    only: Sequence[str] = (),
    make: Callable[[Base], tuple[list[PaperSetting], list[PaperTable]]] = suite,
    tick: Tick = lambda name: None,
) -> Suite:
    """Solve the settings of every table for one model.

    Args:
        model: the testbed's, or one with its vocabulary.
        processor: a Qwen2_5OmniProcessor.
        keywords: of `FastAVConfig.for_model`, for the config that all tables start from.
        only: keys of the tables wanted; () for all.
        make: all settings and tables of a model.
        tick: called with the name of each setting that is solved.

    Raises:
        ConfigError: a setting that the model cannot follow.
    """
    config = FastAVConfig.for_model(model, method="fastav+divprune", **keywords)
    samples = _Samples(model, processor)
    base = Base(config, samples.layers, samples.prompt)
    settings, tables = make(base)
    if only:
        tables = [table for table in tables if table.key in only]
        settings = _needed(settings, tables)

    def plan(candidate: FastAVConfig) -> float:
        (counts,), _ = plan_tokens(candidate, base.prompt, base.layers)
        return sum(counts) / len(counts)

    solved = solve_all(settings, plan, samples.average, tick)
    first: dict[str, str] = {}
    for name, found in solved.items():
        first.setdefault(json.dumps(found.config.to_dict(), sort_keys=True), name)
    same = {
        name: first[json.dumps(found.config.to_dict(), sort_keys=True)]
        for name, found in solved.items()
    }
    return Suite(base, solved, tables, same)


def draw_for(question: Question, config: FastAVConfig) -> FastAVConfig:
    """The config with a random draw per question, the same in every run.

    Equal questions have equal token ids, from which `RandomPruning` draws; only its seed can
    distinguish their clips.
    """
    hooks = config.to_dict()["hooks"]
    if all(hook["name"] != RandomPruning.name for hook in hooks):
        return config
    return FastAVConfig(
        hooks=[
            {**hook, "seed": _seed(hook.get("seed", 0), question.key)}
            if hook["name"] == RandomPruning.name
            else hook
            for hook in hooks
        ]
    )


def _seed(seed: int, key: str) -> int:
    """A number below 2 ** 63 from the setting's seed and the question."""
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _needed(settings: Sequence[PaperSetting], tables: Sequence[PaperTable]) -> list[PaperSetting]:
    """Those in the tables, and what they are compared with."""
    by_name = {setting.name: setting for setting in settings}
    wanted = {name for table in tables for _, name in table.rows}
    wanted |= {like for name in wanted if (like := by_name[name].like) is not None}
    return [setting for setting in settings if setting.name in wanted]


def answer_suite(
    model: Any,
    processor: Any,
    found: Suite,
    items: Sequence[Item],
    file: AnswerLog,
    tick: Tick = lambda name: None,
) -> list[Record]:
    """Answer questions dense and under every setting; the encoders see each question once.

    Args:
        model: in evaluation mode.
        processor: a Qwen2_5OmniProcessor.
        found: the settings.
        items: the questions, those about one clip next to each other.
        file: answers so far, and where new ones are written.
        tick: called with the task of each question answered.
    """
    source = make_source(processor, [(CLIPS, item) for item in items])
    with towers_once(model):
        records = answer_questions(model, processor, source, found.configs, file, tick)
    return [
        replace(
            record,
            answers={
                DENSE: record.answers[DENSE],
                **{name: record.answers[first] for name, first in found.same.items()},
            },
        )
        for record in records
    ]


def make_tables(
    records: Sequence[Record], items: Sequence[Item], found: Suite, seed: int = 0
) -> list[dict[str, Any]]:
    """The tables as plain JSON data; see `summarise_tables`."""
    facets = {
        record.question.key: facets_of(item.question.task, find_needle(item.clip(), item.question))
        for record, item in zip(records, items, strict=True)
    }
    return summarise_tables(records, facets, found.tables, found.solved, seed=seed)


class _Samples:
    """Prompts that are not reported on, for counts that depend on the prompt."""

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor
        items = held_out_items(-(-SAMPLE // len(TASKS)), first_seed=SELECTION_SEED)
        self._source = make_source(processor, [(CLIPS, item) for item in items])
        self._inputs: list[dict[str, Any]] = []
        head = unwrap(model)
        override, inputs = find_override(head), self._input(0)
        self.layers = len(override.parts(head).layers)
        self.prompt = override.token_map(
            head.config, inputs["input_ids"], inputs["attention_mask"], inputs
        )

    def _input(self, index: int) -> dict[str, Any]:
        while len(self._inputs) <= index:
            question = self._source.questions[len(self._inputs)]
            self._inputs.append(move_inputs(self._source.inputs(question), self._model))
        return self._inputs[index]

    def average(self, config: FastAVConfig) -> float:
        """Tokens of an average layer over some prompts."""
        averages = []
        with towers_once(self._model):
            for index in range(len(self._source.questions)):
                inputs = self._input(index)
                report = run_once(self._model, inputs, config).report(self._model, inputs)
                averages.append(statistics.fmean(report.tokens_per_layer))
        return statistics.fmean(averages)
