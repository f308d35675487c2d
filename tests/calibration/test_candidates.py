"""Positional rules keep the share of the rollout that they were made for."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastav_plugin.calibration.candidates import positional_rules, smallest_prefix
from fastav_plugin.calibration.rollout_profile import RolloutProfile
from fastav_plugin.tokens import Modality
from tests.calibration.prompts import observed

TEXT, VIDEO, AUDIO = Modality.TEXT, Modality.VIDEO, Modality.AUDIO
Masses = st.lists(st.floats(0.001, 1), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(Masses, st.floats(0.01, 1))
def test_the_smallest_prefix(masses: list[float], threshold: float) -> None:
    shares = torch.tensor(masses, dtype=torch.float64)
    count = smallest_prefix(shares, threshold)
    wanted = threshold * shares.sum()
    assert shares[:count].sum() >= wanted * (1 - 1e-9)
    assert shares[: count - 1].sum() < wanted


def test_rules_keep_the_share_they_were_made_for() -> None:
    profile = RolloutProfile()
    frame = [-1, 0, 0, 1, 1, -1, -1]
    profile.add(observed((TEXT, [1.0]), (VIDEO, [4.0, 1, 1, 2]), (AUDIO, [3.0, 1]), frame=frame))
    assert profile.framed == ["video"]
    assert positional_rules(profile, "last_row", 1, 0.6) == {
        "tokens": {"video": "first 2 tokens", "audio": "first 1 tokens"},
        "below": {"video": "below 5", "audio": "below 5"},  # 8 of 12 are at positions 1..4
        "frames": {"video": "first 1 frames", "audio": "first 1 tokens"},
        "all of video": {"video": "all", "audio": "first 1 tokens"},
        "all of audio": {"video": "first 2 tokens", "audio": "all"},
    }
    whole = positional_rules(profile, "last_row", 1, 1.0)
    assert set(whole["tokens"].values()) == {"all"} == set(whole["below"].values())
