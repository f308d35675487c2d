"""A training resumes in the stage in which it stopped."""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastav_plugin.lab.real_audio.training.loop import Run, Stage


class Fit(Stage):
    """Bring a number to a target; ends the run after some steps."""

    def __init__(self, name: str, number: nn.Parameter, minutes: float, ending: int = 0) -> None:
        self.name, self.minutes = name, minutes
        self.number, self.ending = number, ending
        self.run: Run | None = None
        self.steps = 0

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        return [([self.number], 0.1)]

    def step(self, source: random.Random, progress: float) -> tuple[Tensor, dict[str, float]]:
        self.steps += 1
        if self.run is not None and self.steps == self.ending:
            self.run._ended = True
        return (self.number - 1).square().sum(), {}

    def test(self) -> dict[str, Any]:
        return {"number": float(self.number.detach())}


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by one second each time it is read."""
    seconds = iter(range(10**6))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)


def test_a_stage_lasts_its_minutes_over_an_interruption(tmp_path: Path) -> None:
    module = nn.ParameterList([nn.Parameter(torch.zeros(1))])
    run = Run(tmp_path, module)
    # Each step reads the clock twice around it: one second.
    first, second = Fit("one", module[0], 0.5), Fit("two", module[0], 1.0, ending=7)
    second.run = run
    assert not run.run([first, second])
    assert (first.steps, second.steps) == (30, 7)
    reached = float(module[0].detach())
    assert abs(reached) > 0.1

    again = nn.ParameterList([nn.Parameter(torch.zeros(1))])
    resumed = Run(tmp_path, again)
    assert float(again[0].detach()) == reached
    first, second = Fit("one", again[0], 0.5), Fit("two", again[0], 1.0)
    assert resumed.run([first, second])
    assert (first.steps, second.steps) == (0, 53)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines if line.get("done")] == ["one", "two"]


def test_the_rate_rises_and_falls(tmp_path: Path) -> None:
    module = nn.ParameterList([nn.Parameter(torch.zeros(1))])
    run = Run(tmp_path, module)
    stage = Fit("one", module[0], 1.0)
    assert run._factor(stage, 0.0) == pytest.approx(1 / stage.warm_up)
    run.state["step"] = 100
    assert run._factor(stage, 0.0) == 1.0
    assert run._factor(stage, 0.5) == pytest.approx(0.5)
    assert 0 < run._factor(stage, 1.0) < 0.05
