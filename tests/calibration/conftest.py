"""The small model with random weights, its processor, and one calibration of it."""

from __future__ import annotations

from typing import Any

import pytest

from fastav_plugin.calibration.run import calibrate
from fastav_plugin.calibration_file import Calibration
from fastav_plugin.lab.testbed.model import build_model, build_processor
from tests.calibration.prompts import NoisySource, small_plan


@pytest.fixture(scope="session")
def model() -> Any:
    return build_model()


@pytest.fixture(scope="session")
def processor() -> Any:
    return build_processor()


@pytest.fixture(scope="session")
def calibration(
    model: Any, processor: Any, tmp_path_factory: pytest.TempPathFactory
) -> Calibration:
    path = tmp_path_factory.mktemp("calibration") / "whole.safetensors"
    return calibrate(model, NoisySource(processor), small_plan(), path)
