"""Promises of calibrations are counted, and nothing is measured twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.calibration.data import PromptSource
from fastav_plugin.calibration.fidelity import Fidelity
from fastav_plugin.calibration.plan import CalibrationPlan
from fastav_plugin.lab.testbed import promises
from fastav_plugin.lab.testbed.promises import (
    POLICIES,
    KnownFidelity,
    Promise,
    keep_promises,
    summarize,
)


class Calls:
    """Stands for `measure_fidelity`; a setting's KL is its drop ratio times the first id."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, float | None]] = []

    def __call__(self, model: Any, inputs: Any, configs: Any, tokens: int) -> list[Fidelity]:
        first = int(inputs["input_ids"][0, 0])
        self.asked += [(first, config.fine_drop_ratio) for config in configs]
        return [Fidelity(first * c.fine_drop_ratio, 1.0, 0.5, 9.0, True) for c in configs]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    found = Calls()
    monkeypatch.setattr(promises, "measure_fidelity", found)
    return found


def ids(first: int) -> dict[str, Any]:
    return {"input_ids": torch.tensor([[first, 2, 3]])}


def test_what_is_known_is_not_measured_again(calls: Calls, tmp_path: Path) -> None:
    path = tmp_path / "known.jsonl"
    known = KnownFidelity(path)
    one, two, three = (FastAVConfig(fine_drop_ratio=ratio) for ratio in (0.1, 0.2, 0.3))
    assert [found.kl for found in known(None, ids(1), [one, two], 1)] == [0.1, 0.2]
    assert [found.kl for found in known(None, ids(1), [three, one], 1)] == [0.3, 0.1]
    assert calls.asked == [(1, 0.1), (1, 0.2), (1, 0.3)]
    again = KnownFidelity(path)
    assert again(None, ids(1), [one, two, three], 1) == known(None, ids(1), [one, two, three], 1)
    assert (len(calls.asked), known.measured, again.measured) == (3, 3, 0)
    known(None, ids(2), [one], 1)
    known(None, ids(1), [one], 8)
    assert len(calls.asked) == 5


def test_each_policy_is_held_against_clips_of_its_own(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generated(prepare: Any, count: int, seed: int) -> PromptSource:
        return PromptSource(range(count), lambda index: ids(1 if seed == 10_003 else 0), str(seed))

    def chosen(model: Any, source: Any, plan: CalibrationPlan, measure: Any) -> Any:
        if source.digest == "3" and plan.margin:
            return {"method": "fastav", "fine_drop_ratio": 0.01}
        return None if source.digest == "4" else {"method": "fastav", "fine_drop_ratio": 0.4}

    monkeypatch.setattr(promises, "generated_source", generated)
    monkeypatch.setattr(promises, "_choose", chosen)
    monkeypatch.setattr(promises, "move_inputs", lambda inputs, model: inputs)
    plan = CalibrationPlan(samples=5, tokens=1)
    made = list(keep_promises(None, None, plan, [3, 4], 2, KnownFidelity()))  # type: ignore[arg-type]
    assert [(each.policy, each.seed, each.kept) for each in made] == [
        ("before", 3, False),
        ("after", 3, True),
        ("before", 4, None),
        ("after", 4, None),
    ]
    found = summarize(made)
    assert found["before"] == {
        "calibrations": 2,
        "made": 1,
        "kept": 0,
        "flops_ratio": 0.5,
        "median_kl": 0.4,
    }
    assert found["after"]["kept"] == 1
    assert summarize([Promise("after", 1)])["before"]["flops_ratio"] is None


def test_a_calibration_that_finds_nothing_makes_no_promise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(text: str) -> Any:
        def calibrate(*given: Any, **named: Any) -> None:
            raise ConfigError(text)

        return calibrate

    source, plan = PromptSource([], ids, ""), CalibrationPlan()
    monkeypatch.setattr(promises, "calibrate", refuse("No setting has a mean KL"))
    assert promises._choose(None, source, plan, KnownFidelity()) is None
    monkeypatch.setattr(promises, "calibrate", refuse("The prompt holds no media tokens"))
    with pytest.raises(ConfigError, match="no media"):
        promises._choose(None, source, plan, KnownFidelity())


def test_the_policy_before_is_the_one_without_a_margin() -> None:
    before = promises._changed(CalibrationPlan(samples=7), POLICIES["before"])
    assert (before.margin, before.samples, before.chosen_within) == (0, 7, before.max_kl)
    assert promises._changed(CalibrationPlan(), POLICIES["after"]) == CalibrationPlan()
