"""Short prompts of real media for the bundled model, and a calibration small enough to test."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fastav_plugin.calibration.data import PromptSource
from fastav_plugin.calibration.plan import CalibrationPlan
from fastav_plugin.calibration.rollout_profile import Observed
from fastav_plugin.lab.testbed.model import prepare_inputs
from fastav_plugin.tokens import Modality

QUESTIONS = ("Which sound is heard?", "Is the circle visible?")


class NoisySource(PromptSource):
    """Frames and sounds of noise: 8 to 24 video tokens and 25 of audio.

    Args:
        processor: the testbed's.
        count: of questions, two about each clip.
    """

    def __init__(self, processor: Any, count: int = 4) -> None:
        self._processor = processor
        self.asked: list[int] = []
        media = [index // 2 for index in range(count)]
        super().__init__(media, self._inputs, f"noise {count}")

    def _inputs(self, index: int) -> dict[str, Any]:
        self.asked.append(index)
        rng = np.random.default_rng(index // 2)
        frames = rng.integers(0, 255, (2 + 2 * (index // 2 % 3), 56, 112, 3), dtype=np.uint8)
        sound = rng.standard_normal(16_000, dtype=np.float32) / np.float32(8)
        return dict(prepare_inputs(self._processor, frames, sound, QUESTIONS[index % 2]))


def small_plan(**changes: Any) -> CalibrationPlan:
    """A plan of few settings, all of which pass."""
    values: dict[str, Any] = {
        "samples": 4,
        "thresholds": (0.4,),
        "layers": (3, 5),
        "drop_ratios": (0.2,),
        "max_kl": 10.0,
        "tokens": 1,
        "margin": 0,
        "overrides": {"min_media_tokens": 1},
    }
    return CalibrationPlan(**{**values, **changes})


def observed(*runs: tuple[Modality, list[float]], frame: list[int] | None = None) -> Observed:
    """One layer of rollout over runs of tokens."""
    kinds = [int(kind) for kind, masses in runs for _ in masses]
    mass = torch.tensor([value for _, masses in runs for value in masses])
    frames = torch.tensor(frame or [-1] * len(kinds))
    rollout = mass.expand(2, 1, -1)
    return Observed(rollout, torch.tensor(kinds), frames, torch.arange(len(kinds)))
