"""An arena: a model, and questions about media whose answers can be judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from fastav_plugin.tokens import TokenMap

EARLY, MIDDLE, LATE = PLACES = ("early", "middle", "late")

#: How an answer is judged: it must begin with an accepted one, or have one anywhere.
BEGINS, HOLDS = RULES = ("begins", "holds")


@dataclass(frozen=True, eq=False)
class Question:
    """One question, with everything that generate() needs.

    Attributes:
        name: unique in the arena for one seed, the same in every run.
        passage: what it is about; intervals are drawn over passages.
        kind: of the question, for figures of its own.
        place: early, middle or late: where the medium holds the answer; "" where that has no
            meaning.
        inputs: arguments of generate() of batch size 1, on the model's device.
        tokens: what the prompt's positions are; None where `input_ids` tell.
        answers: what is accepted, whatever the case.
        rule: one of `RULES`.
        max_new_tokens: most tokens of the answer.
        evidence: positions of the prompt that hold the answer, for an upper bound; () if unknown.
        follow_up: another question on the same media, as a second turn; None without one.
        shared: positions at the beginning of the prompt, all media and one text token after them,
            that the prompts about the passage have in common; 0 to prefill each by itself.
    """

    name: str
    passage: str
    kind: str
    place: str
    inputs: Mapping[str, Any]
    tokens: TokenMap | None
    answers: tuple[str, ...]
    rule: str = BEGINS
    max_new_tokens: int = 8
    evidence: Sequence[int] = field(default=(), repr=False)
    follow_up: "FollowUp | None" = field(default=None, repr=False)
    shared: int = 0

    def right(self, answer: str) -> bool:
        """Whether an answer is right, punctuation at the ends of words and case aside."""
        return judge(answer, self.answers, self.rule)


@dataclass(frozen=True, eq=False)
class FollowUp:
    """A question of a second turn.

    Attributes:
        input_ids: int64 [1, N], what is put after the first question's answer: the end of that
            turn, the question, and the beginning of its answer.
        answers: what is accepted.
        rule: as of a question.
        max_new_tokens: most tokens of the answer.
    """

    input_ids: Tensor
    answers: tuple[str, ...]
    rule: str = BEGINS
    max_new_tokens: int = 8

    def right(self, answer: str) -> bool:
        """As of a question."""
        return judge(answer, self.answers, self.rule)


class Arena(Protocol):
    """What a run needs.

    Attributes:
        name: as `--suite` names it.
        model: in evaluation mode.
        tokenizer: decodes answers.
        facts: what answers depend on besides seed, settings and package: weights, passages.
        about: a sentence for the tables: what is asked.
    """

    name: str
    model: Any
    tokenizer: Any
    facts: Mapping[str, Any]
    about: str

    def questions(self, count: int, seed: int) -> Sequence[Question]:
        """So many questions, those about one passage next to each other; the same for a seed.

        All kinds and places are among them as far as `count` allows.
        """


def judge(answer: str, accepted: Sequence[str], rule: str) -> bool:
    """Whether an answer begins with an accepted one, or by the other of `RULES` has one in it."""
    words = f" {_plain(answer)} "
    wanted = [f" {_plain(text)} " for text in accepted]
    if rule == HOLDS:
        return any(text in words for text in wanted)
    return any(words.startswith(text) for text in wanted)


def _plain(text: str) -> str:
    """Words of letters and digits, in lower case; a colon, point or dash within a word stays."""
    words = (word.strip("\"'“”.,:;!?()-") for word in text.lower().split())
    return " ".join(word for word in words if word)
