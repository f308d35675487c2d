"""What an evaluation asks, and what every setting answered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Question:
    """One question of an evaluation and how its answers are judged.

    Attributes:
        part: the set it belongs to; parts are reported separately.
        key: identifies it, unique over all parts.
        clip: what it is about; intervals are drawn over clips.
        task: its kind; every task has a figure of its own.
        text: the whole text of the prompt, without its media.
        right: the right answer, or each of several; for a caption its references.
        rule: name of the matching rule.
        choices: the options of a multiple-choice question.
        chance: share of right answers that guessing gives, or None.
    """

    part: str
    key: str
    clip: str
    task: str
    text: str
    right: tuple[str, ...]
    rule: str = "exact"
    choices: tuple[str, ...] = ()
    chance: float | None = None


@dataclass(frozen=True)
class Answer:
    """What one setting answered to one question, and what it cost.

    Attributes:
        text: the whole answer.
        read: what the matching rule understood; "" if nothing.
        score: 1.0 right, 0.0 wrong; None for a metric over the whole set.
        kl: KL divergence from the dense distribution, in nats, as a mean over the first tokens of
            the dense answer (`answers.COMPARED` at most), which both are fed.
        tokens: prompt tokens that each layer saw.
        visual: image and video tokens among them.
        audio: audio tokens among them.
        flops_ratio: prefill multiply-accumulates of the decoder layers as a fraction of dense.
        kv_bytes: bytes of keys and values that the prompt left in the cache.
        seconds: time to first token: encoders and prefill.
        new_tokens: length of the answer.
        reason: why nothing was cut, or None.
        same_tokens: whether the first tokens of the answer, as many, are those of dense.
    """

    text: str
    read: str
    score: float | None
    kl: float
    tokens: list[int]
    visual: list[int]
    audio: list[int]
    flops_ratio: float
    kv_bytes: int
    seconds: float
    new_tokens: int = 1
    reason: str | None = None
    same_tokens: bool = True


@dataclass(frozen=True)
class Record:
    """One question, and the answer of every setting by its name, dense first."""

    question: Question
    answers: dict[str, Answer]


@dataclass(frozen=True)
class QuestionSource:
    """Questions about real files, and the inputs of generate() for each.

    Attributes:
        questions: in order, those about one clip next to each other.
        inputs: makes the inputs for one question, batch size 1, on any device; ConfigError where
            its media cannot be read.
        max_new_tokens: most tokens of an answer.
    """

    questions: Sequence[Question]
    inputs: Callable[[Question], Mapping[str, Any]]
    max_new_tokens: int = 1
