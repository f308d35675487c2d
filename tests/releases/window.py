"""The window of transformers releases, as the package states it."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.releases.errors import CannotRun

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "fastav_plugin" / "upstream" / "releases.py"
NAMES = ("OLDEST", "NEWEST")


def window(source: Path = SOURCE) -> tuple[str, str]:
    """The oldest and the newest release; read from the source, as importing it imports torch.

    Raises:
        CannotRun: the file is missing, or does not hold both as string constants.
    """
    if not source.is_file():
        raise CannotRun(f"{source.name} is missing, which states OLDEST and NEWEST.")
    found: dict[str, object] = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found |= {ast.unparse(target): node.value.value for target in node.targets}
    missing = [name for name in NAMES if not isinstance(found.get(name), str)]
    if missing:
        raise CannotRun(f"{source.name} holds no string {' and no string '.join(missing)}.")
    return str(found["OLDEST"]), str(found["NEWEST"])
