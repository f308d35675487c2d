"""The summary of answers made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from fastav_plugin.evaluation.matching import judge
from fastav_plugin.evaluation.records import Answer, Question, Record
from fastav_plugin.evaluation.summary import summarise, summarise_tasks


def answer(question: Question, text: str, kl: float = 0.0) -> Answer:
    read, score = judge(question.rule, text, question.right, question.choices)
    return Answer(text, read, score, kl, [8, 4], [4, 2], [0, 0], 0.5, 10, 1.0)


def record(key: int, right: str, dense: str, pruned: str, **values: Any) -> Record:
    asked: dict[str, Any] = {"part": "p", "clip": f"clip {key}", "task": "presence", "text": "?"}
    question = Question(key=str(key), right=(right,), **{**asked, "rule": "yes-no", **values})
    return Record(question, {"dense": answer(question, dense), "half": answer(question, pruned)})


YES_NO = [
    record(1, "yes", "Yes.", "yes"),
    record(2, "yes", "Yes.", "No"),
    record(3, "no", "No", "Yes"),
    record(4, "no", "It is.", "Is it?"),
    record(5, "no", "no", "no"),
]


def test_yes_and_no() -> None:
    dense, half = summarise(YES_NO)
    assert dense["accuracy"]["mean"] == 0.8
    assert dense["binary"] == {"precision": 1, "recall": 1, "f1": 1, "yes_rate": 0.4}
    assert half["accuracy"]["mean"] == 0.4
    assert half["binary"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "yes_rate": 0.4}
    assert half["share_of_dense"] == 0.5
    assert half["accuracy_change"]["mean"] == pytest.approx(-0.4)
    # What was not understood agrees where it is the same text, and only there.
    assert half["agreement"]["mean"] == 0.4
    assert (dense["unread"], half["unread"]) == (1, 1)


def test_figures_without_a_case() -> None:
    dense, half = summarise([record(1, "no", "no", "yes"), record(2, "no", "no", "Never")])
    assert dense["binary"] == {"precision": None, "recall": None, "f1": None, "yes_rate": 0}
    assert half["binary"] == {"precision": 0, "recall": None, "f1": 0, "yes_rate": 0.5}
    [dense] = summarise([record(1, "two", "three", "four", rule="exact")])[:1]
    assert dense["binary"] is None
    assert dense["share_of_dense"] is None


def test_every_task_and_all_of_them() -> None:
    caption = {"task": "captions", "rule": "cider-d"}
    pictures = [
        record(6, "a dog runs on sand", "a dog runs on sand", "a dog", **caption),
        record(7, "two cats sleep at home", "two cats sleep at home", "cats", **caption),
    ]
    parts = {part["task"]: part for part in summarise_tasks([*YES_NO, *pictures])}
    assert list(parts) == ["presence", "captions", "all"]
    assert parts["presence"]["rows"] == summarise(YES_NO)
    dense, half = parts["captions"]["rows"]
    assert dense["cider_d"]["mean"] == pytest.approx(10)
    assert 0 < half["cider_d"]["mean"] < 10
    assert half["cider_d_share_of_dense"] == pytest.approx(half["cider_d"]["mean"] / 10)
    assert "accuracy" not in dense
    assert "tasks" not in dense
    whole = parts["all"]["rows"][1]
    assert (whole["accuracy"]["questions"], whole["cider_d"]["questions"]) == (5, 2)
    assert whole["cider_d"] == half["cider_d"]
    assert whole["agreement"]["questions"] == parts["all"]["questions"] == 7
    [alone] = summarise_tasks(pictures)
    assert alone["task"] == "captions"
