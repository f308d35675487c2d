"""Programs that read video with transformers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.serving import ffmpeg

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def run_with_video(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Sequence[str]], subprocess.CompletedProcess[str]]:
    """Run a program in the checkout, where the dynamic linker was told about an FFmpeg."""
    environment = ffmpeg.environment(tmp_path_factory.mktemp("ffmpeg"))
    if environment is None:
        pytest.skip("torchcodec finds no FFmpeg here, so transformers reads no video files")

    def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
