from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastav_plugin.lab.testbed.evaluate import answer_items, evaluate
from fastav_plugin.lab.testbed.model import build_model, build_processor
from fastav_plugin.lab.testbed.tasks import TASKS, held_out_items
from fastav_plugin.lab.testbed.training.train import export
from fastav_plugin.lab.testbed.words import vocabulary
from fastav_plugin.lab.testbed.world import Difficulty


def test_every_item_gets_one_word() -> None:
    items = held_out_items(1, combinations=True, difficulty=Difficulty(2))
    answered = list(answer_items(build_model(), build_processor(), items))
    assert [item for item, _ in answered] == items
    assert all(answer in vocabulary() for _, answer in answered)


def test_the_report_names_every_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(build_model(), tmp_path)
    capsys.readouterr()
    evaluate(tmp_path, per_task=1)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(report["tasks"]) == set(TASKS)
    assert 0 <= report["accuracy"] <= 1
