"""Facts: sentences that a passage says once, with what is asked about them."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from fastav_plugin.lab.real_text import words

#: Kinds of questions: an answer that is begun, a bare question, a phrase to copy, a number.
LOOKUP, BARE, COPY, NUMBER = KINDS = ("lookup", "bare", "copy", "number")


@dataclass(frozen=True)
class Fact:
    """One sentence of a passage and its question.

    Attributes:
        kind: one of `KINDS` but "bare", which is a way to ask.
        sentence: as the passage says it.
        question: what is asked.
        begun: the answer up to the word that is asked for.
        answers: what is accepted, in any case.
        bare: whether it can also be asked without an answer that is begun; a small model does
            not find all of them then.
    """

    kind: str
    sentence: str
    question: str
    begun: str
    answers: tuple[str, ...]
    bare: bool = False


def make_facts(random: Random) -> list[Fact]:
    """One fact of every form, about different people and places, in random order."""
    people = [
        f"{first} {last}"
        for first, last in zip(
            random.sample(words.FIRST, 6), random.sample(words.LAST, 6), strict=True
        )
    ]
    places, towns = random.sample(words.PLACES, 5), random.sample(words.TOWNS, 2)
    found = [form(random, who) for form, who in zip(_ABOUT_PEOPLE, people[:5], strict=True)]
    found += [form(random, place) for form, place in zip(_ABOUT_PLACES, places, strict=True)]
    found.append(_birth(random, people[5], towns[0]))
    found.append(_bus(random, towns[1]))
    random.shuffle(found)
    return found


def _pet(random: Random, who: str) -> Fact:
    begun = f"The cat of {who} is called"
    question = f"What is the cat of {who} called?"
    return _fact(LOOKUP, begun, random.choice(words.PETS), question, bare=True)


def _job(random: Random, who: str) -> Fact:
    begun = f"{who} works as a"
    return _fact(LOOKUP, begun, random.choice(words.JOBS), f"What does {who} work as?")


def _food(random: Random, who: str) -> Fact:
    begun = f"The favourite dish of {who} is"
    question = f"What is the favourite dish of {who}?"
    return _fact(LOOKUP, begun, random.choice(words.FOODS), question, bare=True)


def _key(random: Random, who: str) -> Fact:
    begun = f"{who} keeps the spare key in the"
    question = f"Where does {who} keep the spare key?"
    return _fact(LOOKUP, begun, random.choice(words.HIDINGS), question)


def _house(random: Random, who: str) -> Fact:
    begun = f"{who} lives in house number"
    question = f"What is the house number of {who}?"
    return _fact(NUMBER, begun, str(random.randint(21, 989)), question, bare=True)


def _birth(random: Random, who: str, town: str) -> Fact:
    del random
    return _fact(
        LOOKUP, f"{who} was born in the town of", town, f"Where was {who} born?", bare=True
    )


def _bus(random: Random, town: str) -> Fact:
    hour, minute = random.randint(6, 21), random.choice(range(5, 60, 5))
    begun = f"The last bus to {town} leaves at"
    question = f"When does the last bus to {town} leave?"
    return _fact(NUMBER, begun, f"{hour}:{minute:02}", question, bare=True)


def _door(random: Random, place: str) -> Fact:
    begun = f"The door of {place} is painted"
    return _fact(
        LOOKUP, begun, random.choice(words.COLOURS), f"Which colour is the door of {place}?"
    )


def _chairs(random: Random, place: str) -> Fact:
    begun = f"The number of chairs in {place} is"
    question = f"What is the number of chairs in {place}?"
    return _fact(NUMBER, begun, str(random.randint(21, 489)), question, bare=True)


def _sign(random: Random, place: str) -> Fact:
    return _copied(random, f"The sign at {place} says", f"What does the sign at {place} say?")


def _note(random: Random, place: str) -> Fact:
    return _copied(
        random, f"The note on the wall of {place} reads", f"What does the note in {place} read?"
    )


def _code(random: Random, place: str) -> Fact:
    begun = f"The code of the safe in {place} is"
    question = f"What is the code of the safe in {place}?"
    return _fact(NUMBER, begun, str(random.randint(1000, 9999)), question, bare=True)


def _copied(random: Random, begun: str, question: str) -> Fact:
    """A phrase whose first two words are given."""
    verbs, things = random.sample(words.VERBS, 2), random.sample(words.THINGS, 2)
    first = f"{verbs[0]} the"
    rest = f"{things[0]} before {random.choice(words.TIMES)} and {verbs[1]} the {things[1]}"
    return Fact(COPY, f'{begun}: "{first} {rest}".', question, f'{begun}: "{first}', (rest,))


def _fact(kind: str, begun: str, answer: str, question: str, bare: bool = False) -> Fact:
    return Fact(kind, f"{begun} {answer}.", question, begun, (answer,), bare)


_Form = Callable[[Random, str], Fact]
_ABOUT_PEOPLE: tuple[_Form, ...] = (_pet, _job, _food, _key, _house)
_ABOUT_PLACES: tuple[_Form, ...] = (_door, _chairs, _sign, _note, _code)
