"""The testbed's held-out questions as a source of an evaluation, each clip through a real file."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastav_plugin.evaluation.records import Question, QuestionSource
from fastav_plugin.lab.testbed.media import through_a_file
from fastav_plugin.lab.testbed.model import check_processor, prepare_inputs
from fastav_plugin.lab.testbed.tasks import (
    CHANCE,
    COMBINATIONS,
    QUESTIONS,
    TASKS,
    Item,
    held_out_items,
)


def items_of(
    held_out: Sequence[str], count: int = QUESTIONS, limit: int | None = None, first_seed: int = 0
) -> list[tuple[str, Item]]:
    """Draw the questions, the same ones each time, as many of every task.

    Args:
        held_out: `CLIPS`, `COMBINATIONS` or both.
        count: of each set, rounded up to a multiple of the number of tasks. Fewer questions are
            always among more.
        limit: only the first so many of each set.
        first_seed: as in `held_out_items`.

    Returns:
        Each item with the set it is of.
    """
    per_task = -(-count // len(TASKS))
    return [
        (name, item)
        for name in held_out
        for item in held_out_items(
            per_task, combinations=name == COMBINATIONS, first_seed=first_seed
        )[:limit]
    ]


def make_source(processor: Any, items: Sequence[tuple[str, Item]]) -> QuestionSource:
    """Items of the testbed as questions with one-word answers.

    A clip is written as an mp4 file and read back once for consecutive questions about it.

    Args:
        processor: a Qwen2_5OmniProcessor.
        items: each with the name of the part it belongs to.

    Raises:
        UnsupportedError: another processor; when inputs are made, PyAV is not installed.
    """
    check_processor(processor)
    by_key = {_key(part, item): item for part, item in items}
    read: dict[Any, tuple[Any, Any]] = {}

    def inputs(question: Question) -> Mapping[str, Any]:
        item = by_key[question.key]
        clip = item.seed, item.difficulty
        if clip not in read:
            read.clear()
            read[clip] = through_a_file(item.clip())
        return dict(prepare_inputs(processor, *read[clip], question.text))

    return QuestionSource([make_question(part, item) for part, item in items], inputs)


def make_question(part: str, item: Item) -> Question:
    """An item as a question of an evaluation."""
    asked = item.question
    return Question(
        part=part,
        key=_key(part, item),
        clip=f"{part}/{item.seed}",
        task=asked.task,
        text=asked.text,
        right=(asked.answer,),
        chance=CHANCE[asked.task],
    )


def _key(part: str, item: Item) -> str:
    return f"{part}/{item.seed}/{item.question.task}"
