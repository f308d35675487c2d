"""Both families are calibrated like any other; frames and their sound are one rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.calibration.data import file_source
from fastav_plugin.calibration.plan import CalibrationPlan
from fastav_plugin.calibration.run import calibrate
from fastav_plugin.evaluation.sample import Sample, SampleInputs
from tests.model_overrides.video_salmonn2 import tiny
from tests.support.cache_names import passing


@pytest.mark.parametrize("name", list(tiny.CONFIGS))
def test_calibrate_and_generate(name: str, clips: dict[str, Path], tmp_path: Path) -> None:
    model = tiny.build(name)
    samples = [Sample("Why?", video=clips["three"]), Sample("Why?", video=clips["short"])]
    source = file_source(samples, SampleInputs(tiny.processor(name), own=True), {})
    plan = CalibrationPlan(
        samples=2,
        thresholds=(0.5,),
        layers=(3,),
        drop_ratios=(0.2,),
        max_kl=10,
        overrides={"min_media_tokens": 1},
    )
    found = calibrate(model, source, plan, tmp_path / "found.safetensors")
    rules = found.facts["profile"]["rules"]["0.5"]["frames"]
    assert rules["video"] == rules["audio"]
    assert rules["video"].endswith(" frames")
    cache = FastAVCache(FastAVConfig(calibration=found.path))
    model.generate(**source.inputs(0), **passing(cache), max_new_tokens=1)
    counts = cache.report().tokens_per_layer
    assert counts[3] < counts[2] == counts[0]
