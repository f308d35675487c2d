"""Passages: facts at even distances between sentences that matter to no question."""

from dataclasses import dataclass
from random import Random

from fastav_plugin.errors import unknown_name
from fastav_plugin.lab.real_text import PASSAGES
from fastav_plugin.lab.real_text.facts import Fact, make_facts
from fastav_plugin.lab.real_text.words import FILLER, FILLER_WORDS

#: Sentences of a passage by its kind, and how often they are said.
_SENTENCES = {"short": (49, 1), "long": (148, 1), "repeated": (15, 3)}
_THIRDS = ("early", "middle", "late")


@dataclass(frozen=True)
class Passage:
    """A text and the facts in it.

    Attributes:
        name: unique among the passages of one kind and seed.
        text: sentences joined by spaces.
        facts: in the order of the text, each with its place: early, middle or late.
    """

    name: str
    text: str
    facts: tuple[tuple[Fact, str], ...]


def make_passage(kind: str, seed: int, number: int) -> Passage:
    """One passage, the same for the same arguments.

    Args:
        kind: one of `PASSAGES`; "repeated" says all its sentences three times in the same order,
            as successive frames of a clip show the same things.
        seed: of a set of passages.
        number: of the passage in the set.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind not in PASSAGES:
        raise unknown_name("kind of passages", kind, PASSAGES)
    count, times = _SENTENCES[kind]
    random = Random(f"{kind} {seed} {number}")
    facts = make_facts(random)
    sentences = [_filler(random) for _ in range(count - len(facts))]
    for index, fact in enumerate(facts):
        # The facts before it already stand there.
        sentences.insert(round((index + 0.5) * count / len(facts)), fact.sentence)
    placed = tuple((fact, _THIRDS[3 * sentences.index(fact.sentence) // count]) for fact in facts)
    return Passage(f"{kind}-{seed}-{number}", " ".join(sentences * times), placed)


def _filler(random: Random) -> str:
    words = {name: random.choice(choices) for name, choices in FILLER_WORDS.items()}
    return random.choice(FILLER).format(**words)
