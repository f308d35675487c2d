"""The measurement of `fastav eval`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastav_plugin import __version__
from fastav_plugin.cli.console import interruptible
from fastav_plugin.cli.evaluation.plan import Plan
from fastav_plugin.cli.options.checkpoint import Machine
from fastav_plugin.cli.progress import progress
from fastav_plugin.cli.tables.left_out import LeftOut
from fastav_plugin.config import FastAVConfig
from fastav_plugin.evaluation.answers import COMPARED, answer_questions
from fastav_plugin.evaluation.answers_file import AnswerLog, checkpoint_digest
from fastav_plugin.evaluation.bootstrap import LEVEL, RESAMPLES
from fastav_plugin.evaluation.formats.fields import Fault
from fastav_plugin.evaluation.records import Question


def measure(
    plan: Plan,
    folder: Path,
    configs: dict[str, FastAVConfig],
    machine: Machine,
    resume: Path | None,
    left_out: LeftOut,
    begin: Callable[[], None],
) -> dict[str, Any]:
    """Answer the questions of a plan; the result as plain JSON data.

    `begin` is called once the file of answers is open, before the first question.
    """
    facts = {
        "version": __version__,
        "model": checkpoint_digest(folder),
        "device": machine.device,
        "dtype": machine.dtype,
        "compared_tokens": COMPARED,
        "settings": {name: value.to_dict() for name, value in configs.items()},
        **plan.facts,
    }
    unreadable: list[Fault] = []

    def leave_out(question: Question, reason: str) -> None:
        unreadable.append(Fault(plan.places[question.key], reason))
        if left_out.strict:
            left_out.add(unreadable, plan.total)

    with AnswerLog(resume, facts) as file, interruptible(lambda: file.kept):
        begin()
        with progress("eval", plan.total, "questions") as tick:
            model, processor = machine.load(folder)
            source = plan.source(processor)
            skip = leave_out if plan.places else None
            records = answer_questions(model, processor, source, configs, file, tick, skip)
    left_out.add(unreadable, len(records))
    return {
        **facts,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "over": "clips"},
        "left_out": left_out.to_json(),
        "sets": plan.measure(records),
    }
