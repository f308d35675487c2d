"""A plan starts from a settings file, but for what it finds."""

from __future__ import annotations

import pytest

from fastav_plugin import ConfigError, FastAVConfig
from fastav_plugin.calibration.plan import FOUND, CalibrationPlan

FILE = FastAVConfig(
    method="divprune",
    global_layer=3,
    global_rule="below 7",
    fine_drop_ratio=0.5,
    visual_keep_ratio=0.25,
    audio_keep_ratio=0.3,
    min_media_tokens=7,
)


def start(plan: CalibrationPlan) -> dict[str, object]:
    return plan.starting_from(FILE.to_dict()).overrides


def test_ratios_that_the_method_uses() -> None:
    assert start(CalibrationPlan()) == {"min_media_tokens": 7}
    assert start(CalibrationPlan(method="fastav+divprune")) == {
        "visual_keep_ratio": 0.25,
        "audio_keep_ratio": 0.3,
        "min_media_tokens": 7,
    }
    assert CalibrationPlan().starting_from({}) == CalibrationPlan()


def test_margins() -> None:
    assert CalibrationPlan(margin=0, max_kl=0.3).chosen_within == 0.3
    for margin in (1.0, -0.1):
        with pytest.raises(ConfigError, match="`margin` must lie in"):
            CalibrationPlan(margin=margin)


def test_what_is_given_goes_first() -> None:
    given = {"visual_keep_ratio": 0.75, "min_media_tokens": 1}
    plan = CalibrationPlan(method="fastav+divprune", overrides=given)
    assert start(plan) == {**given, "audio_keep_ratio": 0.3}


@pytest.mark.parametrize("name", sorted(FOUND - {"method", "hooks", "calibration"}))
def test_what_it_finds_cannot_be_given(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot be given"):
        CalibrationPlan(overrides={name: getattr(FILE, name)})
