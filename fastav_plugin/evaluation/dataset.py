"""A dataset's file as questions of an evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastav_plugin.errors import unknown_name
from fastav_plugin.evaluation.formats.base import Entry, Format, fill_template
from fastav_plugin.evaluation.formats.fields import Fault, Row, join_rows, parse_rows, read_table
from fastav_plugin.evaluation.formats.registry import find_format
from fastav_plugin.evaluation.matching import RULES
from fastav_plugin.evaluation.records import Question, QuestionSource
from fastav_plugin.evaluation.sample import Sample, find_media


@dataclass(frozen=True)
class Dataset:
    """The questions of one file.

    Attributes:
        form: its format, with the prompt, matching rule and length in use.
        questions: those about one clip next to each other, otherwise in the file's order.
        samples: media and prompt of each question, by its key.
        faults: rows that cannot be used, and why.
        digest: SHA-256 of the file, and of that with the answers.
    """

    form: Format
    questions: list[Question]
    samples: Mapping[str, Sample]
    faults: list[Fault]
    digest: str

    @property
    def places(self) -> dict[str, str]:
        """Where in the file each question stands, by its key."""
        return {key: sample.place for key, sample in self.samples.items()}

    def facts(self) -> dict[str, Any]:
        """What answers depend on; answers to another file or prompt must not be mixed in."""
        return {
            "data": self.digest,
            "format": self.form.name,
            "prompt": self.form.template,
            "rule": self.form.rule,
            "max_new_tokens": self.form.max_new_tokens,
        }

    def source(self, prepare: Callable[[Sample], Mapping[str, Any]]) -> QuestionSource:
        """The questions with their inputs, each made by `prepare`."""
        return QuestionSource(
            self.questions,
            lambda question: prepare(self.samples[question.key]),
            self.form.max_new_tokens,
        )


def read_dataset(
    path: Path,
    *,
    name: str | None = None,
    media: Sequence[Path] = (),
    answers: Path | None = None,
    template: str | None = None,
    rule: str | None = None,
    max_new_tokens: int | None = None,
    limit: int | None = None,
) -> Dataset:
    """Read a file of a published format.

    Args:
        path: the file.
        name: of the format; None to detect it from the first record.
        media: folders with the media; without any, the file's own.
        answers: a second file, joined by `question_id`.
        template: a prompt instead of the format's.
        rule: a matching rule instead of the format's; captions stay captions.
        max_new_tokens: instead of the format's.
        limit: only the first so many rows of the file.

    Raises:
        ConfigError: the file as a whole cannot be used, or an option is wrong.
    """
    table = read_table(path)
    if answers is not None:
        table = join_rows(table, read_table(answers), "question_id")
    form = find_format(name, table, path)
    if table.document is not None and form.document is not None:
        table = form.document(table.document)
    form = _adapt(form, template, rule, max_new_tokens)
    folders = list(media) or [path.parent]
    find = partial(find_media, folders)

    def parse(row: Row) -> tuple[Question, Sample]:
        entry = form.parse(row, find)
        text = fill_template(form.template, entry)
        sample = Sample(text, **entry.media, sound=entry.sound, place=row.place)
        question = Question(
            part=form.name,
            key=str(row.index),
            clip=" + ".join(_name(file, folders) for file in sample.files if file is not None),
            task=entry.task,
            text=sample.question,
            right=entry.right,
            rule=entry.rule or form.rule,
            choices=entry.choices,
            chance=entry.chance,
        )
        return question, sample

    pairs, faults = parse_rows(table.rows, parse, limit)
    clips = dict.fromkeys(question.clip for question, _ in pairs)
    order = {clip: place for place, clip in enumerate(clips)}
    pairs.sort(key=lambda pair: order[pair[0].clip])
    return Dataset(
        form,
        [question for question, _ in pairs],
        {question.key: sample for question, sample in pairs},
        [*table.faults, *faults],
        _digest(path, answers),
    )


def _adapt(
    form: Format, template: str | None, rule: str | None, max_new_tokens: int | None
) -> Format:
    if rule is not None and rule not in RULES:
        raise unknown_name("matching rule", rule, RULES)
    if template is not None:
        # A wrong template is one error, not one per row.
        template = template.replace("\\n", "\n")
        fill_template(template, Entry("", "", (), {}))
    given = {"template": template, "rule": rule, "max_new_tokens": max_new_tokens}
    changes: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
    return replace(form, **changes)


def _name(path: Path, folders: Sequence[Path]) -> str:
    """A path relative to its media folder, which may have moved when a run resumes."""
    below = next((folder for folder in folders if path.is_relative_to(folder)), None)
    return (path if below is None else path.relative_to(below)).as_posix()


def _digest(*paths: Path | None) -> str:
    contents = (path.read_bytes() for path in paths if path is not None)
    return sha256(b"".join(sha256(content).digest() for content in contents)).hexdigest()
