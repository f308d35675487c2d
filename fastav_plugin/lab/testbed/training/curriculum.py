"""The stages of training: perception first, then short sparse clips, then long full ones."""

import math
from dataclasses import dataclass

from fastav_plugin.lab.testbed.world import FIRST_TRAINING_SEED, Difficulty

_WARM_UP = 50


@dataclass(frozen=True)
class TrainingStage:
    """One stage of training.

    Attributes:
        name: shown in the log.
        difficulty: of its clips.
        steps: most steps.
        batch: clips per step.
        learning_rate: after a short warm-up.
        enough: share of right answers of every task that ends the stage early; above 1, never.
        decay: let the learning rate fall to a twentieth over the stage.
        dense_weight: weight of the dense targets relative to the answers.
        towers_only: train the towers on the dense targets alone.
        focus: tasks asked twice as often as the others.
    """

    name: str
    difficulty: Difficulty
    steps: int
    batch: int
    learning_rate: float
    enough: float = 0.97
    decay: bool = False
    dense_weight: float = 0.5
    towers_only: bool = False
    focus: tuple[str, ...] = ()

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from the start of the stage."""
        rate = self.learning_rate * min(1.0, (step + 1) / _WARM_UP)
        if self.decay:
            rate *= 0.05 + 0.95 * (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2
        return rate


_SLOW_TO_LEARN = ("colour", "match")
# The time of a sound has to be learned again for each clip length.
_ORDER = ("order", "order", "match")
CURRICULUM = (
    TrainingStage("towers", Difficulty(2, 3, 2), 900, 24, 2e-3, enough=0.97, towers_only=True),
    TrainingStage("short", Difficulty(2, 3, 2), 600, 24, 1.5e-3, enough=0.94, focus=_SLOW_TO_LEARN),
    TrainingStage("longer", Difficulty(4, 3, 2), 300, 16, 1e-3, enough=0.95, focus=_SLOW_TO_LEARN),
    TrainingStage("long", Difficulty(8, 3, 2, apart=1.0), 550, 16, 1e-3, enough=0.97, focus=_ORDER),
    TrainingStage("last", Difficulty(8, 3, 2), 600, 16, 1e-3, enough=1.1, decay=True, focus=_ORDER),
)


def stage_index(name: str) -> int:
    """Place of a stage in the curriculum.

    Raises:
        ValueError: if there is no such stage.
    """
    names = [stage.name for stage in CURRICULUM]
    if name not in names:
        raise ValueError(f"No stage {name!r}. Stages: {', '.join(names)}.")
    return names.index(name)


def seeds_of(first_clip: int, count: int) -> range:
    """Seeds of the next clips; none of them is ever used for evaluation."""
    start = FIRST_TRAINING_SEED + first_clip
    return range(start, start + count)
