"""Samples whose media cannot be read are left out before a calibration is split and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastav_plugin.calibration.data import PromptSource, draw, leave_out_unreadable
from fastav_plugin.calibration.run import calibrate, steps
from fastav_plugin.errors import ConfigError
from tests.calibration.prompts import NoisySource, small_plan


class DamagedSource(NoisySource):
    """Some of the clips, each of two questions, cannot be read."""

    def __init__(self, processor: Any, count: int, damaged: tuple[int, ...]) -> None:
        super().__init__(processor, count)
        self.places = [f"line {index + 1}" for index in range(count)]
        self._damaged = damaged

    def _inputs(self, index: int) -> dict[str, Any]:
        if self.media[index] in self._damaged:
            raise ConfigError(f"Cannot read the media file '{self.media[index]}.mp4'.")
        return super()._inputs(index)


def test_what_can_be_read_is_split_as_if_there_were_nothing_else(processor: Any) -> None:
    source = DamagedSource(processor, 10, (1, 3))
    ticks: list[str] = []
    left, faults = leave_out_unreadable(source, 10, 5, ticks.append)
    assert [fault.place for fault in faults] == ["line 3", "line 4", "line 7", "line 8"]
    assert str(faults[0]) == "line 3: Cannot read the media file '1.mp4'."
    assert len(ticks) == 10
    assert left.places == [f"line {number}" for number in (1, 2, 5, 6, 9, 10)]
    assert left.digest != source.digest
    parts = draw(left, 10, 5)
    assert all((parts.rules, parts.fidelity, parts.check))
    assert sorted(parts.rules + parts.fidelity + parts.check) == list(range(6))
    source.asked.clear()
    for number in range(6):
        left.inputs(number)
    assert source.asked == [0, 1, 4, 5, 8, 9]


@pytest.mark.parametrize("count", [5, 8])
def test_without_damage_nothing_changes(processor: Any, count: int) -> None:
    source = NoisySource(processor, 8)
    left, faults = leave_out_unreadable(source, count, 3)
    assert (faults, left.digest) == ([], source.digest)
    whole, same = draw(source, count, 3), draw(left, count, 3)
    drawn = sorted(whole.rules + whole.fidelity + whole.check)
    for one, other in ((same.rules, whole.rules), (same.check, whole.check)):
        assert [drawn[number] for number in one] == other


class Killed(BaseException):
    """What no handler in between may catch."""


@pytest.mark.parametrize("after", [1, 4, 5])
def test_a_killed_calibration_goes_on_without_the_damaged_ones(
    model: Any, processor: Any, tmp_path: Path, after: int
) -> None:
    plan = small_plan(samples=8)
    ticks: list[str] = []

    def source() -> PromptSource:
        return leave_out_unreadable(DamagedSource(processor, 8, (2,)), 8, plan.seed)[0]

    def tick(name: str) -> None:
        ticks.append(name)
        if len(ticks) == after:
            raise Killed

    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    found = calibrate(model, source(), plan, whole)
    with pytest.raises(Killed):
        calibrate(model, source(), plan, resumed, tick)
    calibrate(model, source(), plan, resumed, ticks.append)
    assert len(ticks) == after + steps(plan, source()) == after + 6
    assert resumed.read_bytes() == whole.read_bytes()
    parts = found.facts["samples"]
    assert parts["rule"] + parts["fidelity"] + parts["check"] == 6


def test_a_file_that_is_damaged_meanwhile_makes_another_calibration(
    model: Any, processor: Any, tmp_path: Path
) -> None:
    plan, path = small_plan(samples=8), tmp_path / "found.safetensors"

    def kill(name: str) -> None:
        raise Killed

    with pytest.raises(Killed):
        calibrate(model, NoisySource(processor, 8), plan, path, kill)
    left, _ = leave_out_unreadable(DamagedSource(processor, 8, (2,)), 8, plan.seed)
    with pytest.raises(ConfigError, match=r"partial' is of another calibration: samples differ"):
        calibrate(model, left, plan, path)
