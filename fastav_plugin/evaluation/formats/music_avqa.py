"""MUSIC-AVQA: questions about musical performances, from templates with placeholders."""

import ast

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.base import Entry, Find, Format, has
from fastav_plugin.evaluation.formats.fields import Row

_MARKS = "?.,!"


def parse(row: Row, find: Find) -> Entry:
    """The answer stands under `anser`; `type` and `templ_values` are lists written as text."""
    kinds = _texts(row, "type")
    if not kinds:
        raise ConfigError("`type` must hold the kind of the question, got none.")
    return Entry(
        task=" ".join(kinds),
        question=fill_placeholders(row.text("question_content"), _texts(row, "templ_values")),
        right=(row.text("anser", "answer").strip(),),
        media={"video": find(row.text("video_id"), "video")},
    )


def fill_placeholders(question: str, values: list[str]) -> str:
    """Put the values, in order, in the place of the words that hold a "<".

    A question mark or another mark at the end of such a word stays; the full-width question mark
    of one template becomes a plain one; blanks at the end go. ConfigError for too few values.
    """
    words = question.replace("？", "?").rstrip().split(" ")
    given = iter(values)
    for place, word in enumerate(words):
        if "<" in word:
            value = next(given, None)
            if value is None:
                raise ConfigError(
                    f"`templ_values` has {len(values)} values, too few for {question!r}."
                )
            words[place] = value + word[len(word.rstrip(_MARKS)) :]
    return " ".join(words)


def _texts(row: Row, name: str) -> list[str]:
    value = row.values.get(name)
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ConfigError(f"`{name}` must be a list written as text, got {value!r}.") from error
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ConfigError(f"`{name}` must be a list of texts, got {value!r}.")
    return value


FORMAT = Format(
    "music-avqa", has("question_content", "video_id", "templ_values"), parse, max_new_tokens=16
)
