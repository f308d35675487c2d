from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fastav_plugin.lab.testbed.training import train as training
from fastav_plugin.lab.testbed.training.curriculum import (
    CURRICULUM,
    TrainingStage,
    seeds_of,
    stage_index,
)
from fastav_plugin.lab.testbed.world import FIRST_TRAINING_SEED, Difficulty

TINY = (
    TrainingStage("towers", Difficulty(2, 1, 1), 1, 1, 1e-3, towers_only=True),
    TrainingStage("last", Difficulty(2, 2, 2), 2, 1, 1e-3, enough=1.1, decay=True),
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CURRICULUM", TINY)
    monkeypatch.setattr(training, "_REPORT_EVERY", 1)
    monkeypatch.setattr(training, "_QUESTIONS_PER_CLIP", 6)


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    training.train(whole, save_every=0.0)
    for _ in range(2):
        training.train(parts, save_every=0.0, max_steps=2)
    states = [
        torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
        for folder in (whole, parts)
    ]
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], msg=name)
    assert (parts / "model" / "model.safetensors").exists()
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["towers"] + ["last"] * 2
    assert lines[-1]["clips"] == 3
    assert "match" in lines[-1]["accuracy"]


def test_the_learning_rate_warms_up_and_falls() -> None:
    stage = TrainingStage("x", Difficulty(), 1000, 1, 1e-3, decay=True)
    rates = [stage.learning_rate_at(step) for step in (0, 100, 500, 1000)]
    assert rates[0] < rates[3] < rates[2] < rates[1] <= 1e-3


def test_stages_have_names() -> None:
    assert stage_index(CURRICULUM[-1].name) == len(CURRICULUM) - 1
    with pytest.raises(ValueError, match="Stages: towers"):
        stage_index("nowhere")


def test_training_seeds_are_apart_from_held_out_ones() -> None:
    assert seeds_of(0, 4)[0] == FIRST_TRAINING_SEED
