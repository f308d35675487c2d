"""VideoLLaMA2's own form: media and one turn of a conversation."""

import re
from typing import Any

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.base import Entry, Find, Format, has
from fastav_plugin.evaluation.formats.fields import Row
from fastav_plugin.evaluation.sample import named_media

_PLACES = re.compile(r"<(?:video|audio|image)>\n?")


def parse(row: Row, find: Find) -> Entry:
    """The question is the human's turn without `<video>`, the answer the model's."""
    turns = row.values.get("conversations")
    turns = turns if isinstance(turns, list) else []
    speakers = [_part(turn, "from") for turn in turns]
    if speakers != ["human", "gpt"]:
        raise ConfigError(
            "`conversations` must hold one question from 'human' and one answer from 'gpt', got "
            f"turns from {speakers}."
        )
    media = named_media(row, find)
    question, answer = (_part(turn, "value").strip() for turn in turns)
    question = _PLACES.sub("", question).strip()
    if not question or not answer:
        raise ConfigError(f"A question or an answer is empty: {question!r}, {answer!r}.")
    kind = row.values.get("type")
    return Entry(kind if isinstance(kind, str) else "conversation", question, (answer,), media)


def _part(turn: Any, name: str) -> str:
    value = turn.get(name) if isinstance(turn, dict) else None
    return value if isinstance(value, str) else ""


FORMAT = Format("videollama2", has("conversations"), parse)
