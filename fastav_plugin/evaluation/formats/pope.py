"""POPE: is an object in the picture; as its authors publish it, and as lmms-lab does."""

from collections.abc import Mapping
from typing import Any

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.base import Entry, Find, Format, has
from fastav_plugin.evaluation.formats.fields import Row

_AUTHORS = has("image", "text", "label")


def recognises(values: Mapping[str, Any]) -> bool:
    """`image`, `text`, `label`; or `question`, `answer` with a `category` or `image_source`."""
    exported = has("question", "answer")(values) and ("category" in values)
    return _AUTHORS(values) or (exported and ("image_source" in values or "image" in values))


def parse(row: Row, find: Find) -> Entry:
    """The right answer is yes or no."""
    right = row.text("label", "answer").strip().lower()
    if right not in ("yes", "no"):
        raise ConfigError(f"The right answer must be yes or no, got {right!r}.")
    category = row.values.get("category")
    return Entry(
        task=category if isinstance(category, str) else "pope",
        question=row.text("text", "question").strip(),
        right=(right,),
        media={"image": find(row.text("image_source", "image"), "image")},
        chance=0.5,
    )


FORMAT = Format(
    "pope",
    recognises,
    parse,
    template="{question}\nAnswer the question using a single word or phrase.",
    rule="strict-yes-no",
    max_new_tokens=128,
)
