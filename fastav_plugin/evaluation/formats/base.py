"""What is known about one published format."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.fields import Row, Table
from fastav_plugin.evaluation.matching import LETTERS

#: Looks a media file up by its name and kind; ConfigError where it is missing.
Find = Callable[[str, str], Path]


@dataclass(frozen=True)
class Entry:
    """What one row asks.

    Attributes:
        task: its kind.
        question: without the format's prompt around it.
        right: the right answer, or each of several.
        media: files by kind: "video", "image", "audio".
        sound: whether the video's own sound is used.
        choices: options of a multiple-choice question.
        rule: matching rule, if not the format's.
        chance: share of right answers that guessing gives, if known.
    """

    task: str
    question: str
    right: tuple[str, ...]
    media: Mapping[str, Path]
    sound: bool = True
    choices: tuple[str, ...] = ()
    rule: str | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Format:
    """One published format.

    Attributes:
        name: as on the command line.
        recognises: whether a row's values are in this format; no row fits two formats.
        parse: what a row asks; ConfigError for a malformed one.
        template: the prompt, with `{question}`, and `{options}` for lettered options.
        rule: matching rule.
        max_new_tokens: most tokens of an answer.
        document: turns a file that is one object into rows, where the format has such a file.
    """

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    parse: Callable[[Row, Find], Entry]
    template: str = "{question}"
    rule: str = "exact"
    max_new_tokens: int = 64
    document: Callable[[Mapping[str, Any]], Table] | None = None


def fill_template(template: str, entry: Entry) -> str:
    """The text of a prompt; ConfigError for one without `{question}`, or with other fields."""
    options = "\n".join(
        f"{letter}. {choice}" for letter, choice in zip(LETTERS, entry.choices, strict=False)
    )
    text = None
    with suppress(KeyError, IndexError, ValueError, AttributeError):
        text = template.format(question=entry.question, options=options)
    if text is None or "{question}" not in template:
        raise ConfigError(
            "The prompt template must hold {question}, may hold {options}, and no other field in "
            f"braces; got {template!r}."
        )
    return text.strip()


def has(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """A function that recognises rows with all these fields."""
    return lambda values: all(name in values for name in names)
