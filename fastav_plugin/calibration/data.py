"""Prompts to calibrate on: questions about the user's files, or about clips made for it."""

import hashlib
import json
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.fields import Fault
from fastav_plugin.evaluation.sample import ENDINGS, Sample, SampleInputs, read_samples

#: Names of a file of questions in a folder of clips.
QUESTION_FILES = ("questions.jsonl", "questions.json", "questions.txt")


@dataclass
class PromptSource:
    """Questions about media, by number.

    Attributes:
        media: of each question, equal for questions about the same media.
        inputs: makes the inputs of generate() for one question, batch size 1, on the CPU;
            ConfigError for a file that cannot be read.
        digest: identifies the questions and their files.
        places: where in its data file each stands, as in `Fault`; () without a file.
    """

    media: Sequence[Hashable]
    inputs: Callable[[int], dict[str, Any]]
    digest: str
    places: Sequence[str] = ()

    def name(self, index: int) -> str:
        """A question for a message."""
        return self.places[index] if self.places else f"sample {index}"


def file_source(
    samples: Sequence[Sample], prepare: SampleInputs, reading: Mapping[str, Any]
) -> PromptSource:
    """Questions about files; `reading` is what `prepare` was made with, plain JSON data."""

    def size(file: Path | None) -> tuple[str, int] | None:
        return None if file is None else (file.name, file.stat().st_size)

    facts = [[s.question, s.sound, *map(size, s.files)] for s in samples]
    return PromptSource(
        [(*sample.files, sample.sound) for sample in samples],
        lambda index: prepare(samples[index]),
        digest_of([facts, dict(reading)]),
        [sample.place for sample in samples],
    )


def leave_out_unreadable(
    source: PromptSource, count: int, seed: int, tick: Callable[[str], None] = lambda name: None
) -> tuple[PromptSource, list[Fault]]:
    """The samples that `draw` takes, but for those whose inputs cannot be made.

    Each is read once before anything is measured, so every part of the calibration has its share of
    what can be read. `tick` is called after each.

    Returns:
        A source of which `draw` takes all; and the others, with the reason.
    """
    drawn = _drawn(source, count, seed)
    usable: list[int] = []
    faults: list[Fault] = []
    for index in drawn:
        try:
            source.inputs(index)
            usable.append(index)
        except ConfigError as error:
            faults.append(Fault(source.name(index), str(error)))
        tick("read")
    left = PromptSource(
        [source.media[index] for index in usable],
        lambda number: source.inputs(usable[number]),
        # A partial file of other samples must not be continued.
        digest_of([source.digest, usable]) if faults else source.digest,
        [source.name(index) for index in usable],
    )
    return left, faults


def data_file(path: Path) -> Path:
    """The file of questions that is given, or that a folder of clips holds.

    Raises:
        ConfigError: the folder holds none of `QUESTION_FILES`.
    """
    if not path.is_dir():
        return path
    found = next((path / name for name in QUESTION_FILES if (path / name).is_file()), None)
    if found is None:
        raise ConfigError(
            f"The folder '{path}' holds none of {', '.join(QUESTION_FILES)}. Write your "
            "questions into one of them, or give a JSONL file."
        )
    return found


def read_data(path: Path, media: Sequence[Path] = ()) -> tuple[list[Sample], list[Fault]]:
    """Questions in a JSON file, or in a folder of clips, and what is wrong with its other rows.

    Args:
        path: a file as of `read_samples`; or a folder with one of `QUESTION_FILES`, of which each
            line of `questions.txt` is asked about each clip of the folder.
        media: as of `read_samples`.

    Raises:
        ConfigError: no such file, or no usable sample in it.
    """
    path = data_file(path)
    samples, faults = (
        (_each_of_all(path), []) if path.suffix == ".txt" else read_samples(path, media)
    )
    if not samples:
        first = f" The first problem: {faults[0]}" if faults else ""
        raise ConfigError(f"'{path}' holds no question about media.{first}")
    return samples, faults


@dataclass(frozen=True)
class Split:
    """Numbers of the samples for each part of a calibration, ascending.

    Attributes:
        rules: for the rollout that makes rules.
        fidelity: for the choice among settings.
        check: for measuring what was chosen.
        disjoint: whether the first two are; the check always differs from both.
    """

    rules: list[int]
    fidelity: list[int]
    check: list[int] = field(default_factory=list)
    disjoint: bool = True


def draw(source: PromptSource, count: int, seed: int) -> Split:
    """Draw samples and split them in three: rules, choice and check.

    Samples about the same media stay together. Two media leave none for the check; a single one
    serves both the rules and the choice. At most `count` samples are drawn.
    """
    chosen = _drawn(source, count, seed)
    groups: dict[Hashable, list[int]] = {}
    for index in chosen:
        groups.setdefault(source.media[index], []).append(index)
    if len(groups) < 2:
        return Split(chosen, chosen, disjoint=False)
    order = list(groups.values())
    random.Random(seed + 1).shuffle(order)
    parts: list[list[int]] = []
    for left in range(min(3, len(order)), 0, -1):
        # An even share of what is left; each later part needs at least one of the media.
        share = sum(map(len, order)) / left
        part = order.pop()
        while len(order) >= left and (left == 1 or len(part) + len(order[-1]) / 2 <= share):
            part = part + order.pop()
        parts.append(sorted(part))
    rules, fidelity, check = (*parts, [])[:3]
    return Split(rules, fidelity, check)


def _drawn(source: PromptSource, count: int, seed: int) -> list[int]:
    number = len(source.media)
    return sorted(random.Random(seed).sample(range(number), min(count, number)))


def _each_of_all(path: Path) -> list[Sample]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"The data file '{path}' is no text in UTF-8.") from error
    questions = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    kinds = {ending: kind for kind, endings in ENDINGS.items() for ending in endings}
    files = [file for file in sorted(path.parent.iterdir()) if file.suffix.lower() in kinds]
    about: list[dict[str, Any]] = [{kinds[file.suffix.lower()]: file} for file in files]
    return [
        Sample(question, **medium, place=f"line {number}, '{file.name}'")
        for file, medium in zip(files, about, strict=True)
        for number, question in questions
        if question
    ]


def digest_of(facts: Any) -> str:
    """SHA-256 of plain JSON data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
