"""The three clips that ship with the model, and what may be asked about them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastav_plugin.lab.testbed.tasks import TASKS, TaskQuestion, ask
from fastav_plugin.lab.testbed.world import Clip, sample_clip

CLIPS_PATH = Path(__file__).parent / "clips"


@dataclass(frozen=True)
class SampleClip:
    """A clip that was never trained on, as a file.

    Attributes:
        name: of the file, without its ending; "matching" holds two shapes with their two sounds,
            "crowded" three shapes and two sounds of others, "single" three shapes and one sound.
        seed: of the clip.
    """

    name: str
    seed: int

    @property
    def path(self) -> Path:
        """The mp4 file."""
        return CLIPS_PATH / f"{self.name}.mp4"

    def clip(self) -> Clip:
        """Draw the clip again."""
        return sample_clip(self.seed)

    def questions(self) -> list[TaskQuestion]:
        """One question of each task that fits the clip, with its right answer."""
        clip, rng = self.clip(), np.random.default_rng((self.seed, 6))
        drawn = (ask(task, clip, rng) for task in TASKS)
        return [question for question in drawn if question is not None]


SAMPLES = (
    SampleClip("matching", 10_272),
    SampleClip("crowded", 10_106),
    SampleClip("single", 10_206),
)
