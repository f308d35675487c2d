"""Clips that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model_overrides.video_salmonn2.tiny import drop_stream, write_clip


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real mp4 files by name."""
    folder = tmp_path_factory.mktemp("clips")
    found = {
        "ten": write_clip(folder / "ten.mp4", 10, fps=4, seed=1),
        "three": write_clip(folder / "three.mp4", 3, seed=2),
        "short": write_clip(folder / "short.mp4", 1, seed=3),
        "silent": write_clip(folder / "silent.mp4", 4, sound=False, seed=4),
        "unseen": write_clip(folder / "unseen.mp4", 4, seed=5),
    }
    drop_stream(found["unseen"], "video")
    return found
