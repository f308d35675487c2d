"""The user's own rows: media, a question and its right answer."""

from collections.abc import Mapping
from typing import Any

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.base import Entry, Find, Format, has
from fastav_plugin.evaluation.formats.fields import Row
from fastav_plugin.evaluation.sample import MEDIA, named_media

_OTHERS = ("category", "coco_url", "video_name", "conversations")


def recognises(values: Mapping[str, Any]) -> bool:
    """`question`, `answer` and media, and none of the fields that mark POPE's or others'."""
    named = has("question", "answer")(values) and any(kind in values for kind in MEDIA)
    return named and not any(n in values for n in _OTHERS)


def parse(row: Row, find: Find) -> Entry:
    """`answer` may list several right ones; `choices` make the question multiple-choice."""
    choices = tuple(row.texts("choices")) if "choices" in row.values else ()
    right = tuple(row.texts("answer"))
    if choices and not set(right) <= set(choices):
        raise ConfigError(f"`answer` {right!r} is none of the `choices` {choices!r}.")
    return Entry(
        task=row.text("task") if "task" in row.values else "questions",
        question=row.text("question").strip(),
        right=right,
        media=named_media(row, find),
        choices=choices,
        rule="choice" if choices else None,
        chance=1 / len(choices) if choices else None,
    )


FORMAT = Format("plain", recognises, parse)
