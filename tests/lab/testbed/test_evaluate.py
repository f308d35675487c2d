from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from fastav_plugin.lab.testbed.evaluate import answer_items, evaluate
from fastav_plugin.lab.testbed.model import MODEL_PATH, build_model, build_processor
from fastav_plugin.lab.testbed.tasks import TASKS, held_out_items
from fastav_plugin.lab.testbed.words import vocabulary
from fastav_plugin.lab.testbed.world import Difficulty


def test_every_item_gets_one_word() -> None:
    items = held_out_items(1, combinations=True, difficulty=Difficulty(2))
    answered = list(answer_items(build_model(), build_processor(), items))
    assert [item for item, _ in answered] == items
    assert all(answer in vocabulary() for _, answer in answered)


def test_the_report_counts_right_answers(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(MODEL_PATH, per_task=1)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    model: Any = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(MODEL_PATH)
    answered = list(answer_items(model.float(), build_processor(), held_out_items(1)))
    right = {item.question.task: int(answer == item.question.answer) for item, answer in answered}
    assert set(right) == set(TASKS)
    assert {task: found["right"] for task, found in report["tasks"].items()} == right
    assert {found["of"] for found in report["tasks"].values()} == {1}
    assert report["accuracy"] == round(sum(right.values()) / len(TASKS), 4) > 0.5
