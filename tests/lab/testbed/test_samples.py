from __future__ import annotations

import numpy as np
import pytest

from fastav_plugin.lab.testbed.picture import frame_times, render_frames
from fastav_plugin.lab.testbed.samples import SAMPLES, SampleClip
from fastav_plugin.lab.testbed.world import FIRST_TRAINING_SEED
from fastav_plugin.media.clips import read_clip


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_shipped_clip_is_the_clip_of_its_seed(sample: SampleClip) -> None:
    assert sample.seed < FIRST_TRAINING_SEED
    frames, waveform = read_clip(sample.path)
    clip = sample.clip()
    rendered = render_frames(clip, frame_times(clip, 2))
    assert np.abs(frames.astype(float) - rendered).mean() < 6
    assert len(waveform) == clip.seconds * 16_000
    assert {question.task for question in sample.questions()} >= {"visible", "heard", "colour"}
