"""What the tasks of this folder show, as lmms-eval asks for it."""

from __future__ import annotations

from typing import Any

from PIL import Image


def picture(document: dict[str, Any]) -> list[Image.Image]:
    """The picture of a question."""
    return [Image.open(document["picture"]).convert("RGB")]


def clip(document: dict[str, Any]) -> list[str]:
    """The path of its clip."""
    return [document["clip"]]
