"""AVQA: multiple-choice questions about ten seconds of VGG-Sound."""

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.base import Entry, Find, Format, has
from fastav_plugin.evaluation.formats.fields import Row
from fastav_plugin.evaluation.matching import LETTERS


def parse(row: Row, find: Find) -> Entry:
    """`answer` is the place of the right option among `multi_choice`, from 0."""
    choices = row.texts("multi_choice")
    if not 2 <= len(choices) <= len(LETTERS):
        raise ConfigError(f"`multi_choice` must hold 2 to {len(LETTERS)} options, got {choices!r}.")
    answer = row.values.get("answer")
    place = int(answer) if isinstance(answer, str) and answer.isdecimal() else answer
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(choices):
        raise ConfigError(
            f"`answer` must be a place from 0 to {len(choices) - 1} in `multi_choice`, got "
            f"{answer!r}."
        )
    return Entry(
        task=row.text("question_type"),
        question=row.text("question_text").strip(),
        right=(choices[place],),
        media={"video": find(row.text("video_name"), "video")},
        choices=tuple(choices),
        chance=1 / len(choices),
    )


FORMAT = Format(
    "avqa",
    has("question_text", "multi_choice", "video_name"),
    parse,
    template="{question}\n{options}\nAnswer with the letter of the right option.",
    rule="choice",
    max_new_tokens=16,
)
