"""The PYTHONPATH of the processes that tests start."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def with_checkout() -> str:
    """The checkout, then what PYTHONPATH holds already: the release under test may be there."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
