"""What test programs share; without torch, as some start before it is installed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[2]


class Parser(argparse.ArgumentParser):
    """States a wrong option in one line, without the usage before it."""

    def __init__(self, program: str, description: str, example: str) -> None:
        super().__init__(
            prog=program,
            description=description,
            epilog=f"Example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def with_checkout() -> str:
    """A PYTHONPATH: the checkout, then what it holds: the release under test may be there."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
