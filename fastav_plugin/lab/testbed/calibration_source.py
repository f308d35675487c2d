"""Clips made for a calibration: questions of the kind that the bundled model was trained on."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fastav_plugin.calibration.data import PromptSource, digest_of
from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.sample import Sample, SampleInputs
from fastav_plugin.lab.testbed.media import write_clip
from fastav_plugin.lab.testbed.tasks import training_questions
from fastav_plugin.lab.testbed.world import FIRST_TRAINING_SEED, sample_clip

#: Seeds that one `seed` of the generated clips may use.
_SEEDS = 100_000


def generated_source(prepare: SampleInputs, count: int, seed: int = 0) -> PromptSource:
    """Questions about clips of the testbed's world, of the kind that its model was trained on.

    Every clip is written as an mp4 file and read back. `fastav eval` asks about none of them.

    Args:
        prepare: makes the inputs of a sample.
        count: how many clips, with one question each.
        seed: which ones.

    Raises:
        ConfigError: a count that is out of range.
        UnsupportedError: when inputs are made, PyAV is not installed.
    """
    if not 0 < count <= _SEEDS:
        raise ConfigError(f"The number of clips must lie in [1, {_SEEDS}], got {count}.")
    first = FIRST_TRAINING_SEED + seed * _SEEDS

    def inputs(index: int) -> dict[str, Any]:
        clip = sample_clip(first + index)
        (asked,) = training_questions(clip, np.random.default_rng((clip.seed, 7)), 1)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            write_clip(path, clip)
            return prepare(Sample(asked.text, video=path))

    return PromptSource(range(count), inputs, digest_of(["generated", first, count]))
