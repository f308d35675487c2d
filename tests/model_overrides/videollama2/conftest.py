"""The tiny official folder, its processor, and clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastav_plugin import register_models
from fastav_plugin.model_overrides.videollama2 import VideoLlama2Processor
from tests.model_overrides.videollama2.checkpoint import write_official
from tests.model_overrides.videollama2.clips import write_heard, write_mute


@pytest.fixture(scope="session", autouse=True)
def registered() -> None:
    register_models()


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the authors publish it."""
    return write_official(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="session")
def processor(official: Path) -> Any:
    return VideoLlama2Processor.from_pretrained(official)


@pytest.fixture(scope="session")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds with sound."""
    return write_heard(tmp_path_factory.mktemp("clips") / "heard.mp4", 20)


@pytest.fixture(scope="session")
def mute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds without a sound track."""
    return write_mute(tmp_path_factory.mktemp("clips") / "mute.mp4", 3)
