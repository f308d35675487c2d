"""Spoken facts, one sentence each, with the questions that the sentence answers."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastav_plugin.lab.real_audio.training import vocabulary as words


@dataclass(frozen=True)
class Question:
    """A question about a clip.

    Args:
        kind: what the answer is, such as "name".
        text: the question.
        answer: its one right answer.
        fact: index of the fact that holds it; None where the whole clip does.
    """

    kind: str
    text: str
    answer: str
    fact: int | None = None


@dataclass(frozen=True)
class Fact:
    """A sentence, the name in it, what it answers, and a claim with a true and other endings.

    Args:
        text: the sentence.
        questions: what it answers.
        claim: a yes-or-no question with a place for its last word.
        ending: what makes the claim true.
        endings: among which false ones are drawn.
        name: of the person in it, empty if there is none.
    """

    text: str
    questions: tuple[tuple[str, str, str], ...]
    claim: str
    ending: str
    endings: tuple[str, ...]
    name: str = ""


@dataclass
class Draw:
    """Words for one clip: none is drawn twice but colours and numbers."""

    source: random.Random
    names: Sequence[str]
    used: set[str] = field(default_factory=set)

    def word(self, among: Sequence[str]) -> str:
        """One that this clip has not used."""
        found = self.source.choice([word for word in among if word not in self.used])
        self.used.add(found)
        return found

    def name(self) -> str:
        """A person's name that this clip has not used."""
        return self.word(self.names)

    def colour(self) -> str:
        """A colour; it may occur twice."""
        return self.source.choice(words.COLOURS)

    def number(self, most: int = 20) -> str:
        """A number from two on, in words; it may occur twice."""
        return words.in_words(self.source.randint(2, most))


def _numbers(most: int) -> tuple[str, ...]:
    return tuple(words.in_words(number) for number in range(2, most + 1))


def _role(draw: Draw) -> Fact:
    role, name = draw.word(words.ROLES), draw.name()
    text = draw.source.choice((f"The {role} is called {name}.", f"{name} is the {role}."))
    questions = (("name", f"Who is the {role}?", name), ("role", f"What is {name}?", role))
    return Fact(text, questions, f"Is {name} the %s?", role, words.ROLES, name)


def _container(draw: Draw) -> Fact:
    colour, container = draw.colour(), draw.word(words.CONTAINERS)
    number, things = draw.number(), draw.word(words.THINGS)
    verb = draw.source.choice(("holds", "contains"))
    questions = (
        ("colour", f"Which colour is the {container}?", colour),
        ("number", f"How many {things} are there?", number),
        ("thing", f"What is in the {container}?", things),
    )
    text = f"The {colour} {container} {verb} {number} {things}."
    return Fact(text, questions, f"Is the {container} %s?", colour, words.COLOURS)


def _home(draw: Draw) -> Fact:
    name, city = draw.name(), draw.word(words.CITIES)
    text = f"{name} {draw.source.choice(('lives in', 'comes from'))} {city}."
    questions = (
        ("place", f"From where is {name}?", city),
        ("name", f"Who is from {city}?", name),
    )
    return Fact(text, questions, f"Is {name} from %s?", city, words.CITIES, name)


def _deal(draw: Draw) -> Fact:
    name, number, things = draw.name(), draw.number(), draw.word(words.THINGS)
    past, present = draw.source.choice((("bought", "buy"), ("sold", "sell"), ("found", "find")))
    questions = (
        ("number", f"How many {things} are there?", number),
        ("name", f"Who {past} the {things}?", name),
        ("thing", f"What did {name} {present}?", things),
    )
    claim = f"Did {name} {present} %s?"
    return Fact(f"{name} {past} {number} {things}.", questions, claim, things, words.THINGS, name)


def _train(draw: Draw) -> Fact:
    city, number = draw.word(words.CITIES), draw.number(40)
    text = f"The train to {city} leaves from platform {number}."
    questions = (("number", f"From which platform does the train to {city} leave?", number),)
    claim = f"Does the train to {city} leave from platform %s?"
    return Fact(text, questions, claim, number, _numbers(40))


def _event(draw: Draw) -> Fact:
    event, day = draw.word(words.EVENTS), draw.word(words.DAYS)
    text = draw.source.choice((f"The {event} is on {day}.", f"On {day} there is the {event}."))
    questions = (
        ("day", f"On which day is the {event}?", day),
        ("event", f"What is on {day}?", event),
    )
    return Fact(text, questions, f"Is the {event} on %s?", day, words.DAYS)


def _pet(draw: Draw) -> Fact:
    name, colour, animal = draw.name(), draw.colour(), draw.word(words.ANIMALS)
    verb = draw.source.choice(("has", "owns"))
    questions = (
        ("colour", f"Which colour is the {animal}?", colour),
        ("animal", f"Which animal does {name} have?", animal),
        ("name", f"Who has the {animal}?", name),
    )
    claim = f"Does {name} have a %s?"
    text = f"{name} {verb} the {colour} {animal}."
    return Fact(text, questions, claim, animal, words.ANIMALS, name)


def _taste(draw: Draw) -> Fact:
    name, food = draw.name(), draw.word(words.FOODS)
    questions = (
        ("food", f"What does {name} like?", food),
        ("name", f"Who likes {food}?", name),
    )
    return Fact(
        f"{name} likes {food}.", questions, f"Does {name} like %s?", food, words.FOODS, name
    )


def _where(draw: Draw) -> Fact:
    thing, room = draw.word(words.OBJECTS), draw.word(words.ROOMS)
    text = draw.source.choice((f"The {thing} is in the {room}.", f"In the {room} is the {thing}."))
    questions = (
        ("room", f"Where is the {thing}?", room),
        ("object", f"What is in the {room}?", thing),
    )
    return Fact(text, questions, f"Is the {thing} in the %s?", room, words.ROOMS)


def _birth(draw: Draw) -> Fact:
    name, month = draw.name(), draw.word(words.MONTHS)
    questions = (
        ("month", f"When was {name} born?", month),
        ("name", f"Who was born in {month}?", name),
    )
    text = f"{name} was born in {month}."
    return Fact(text, questions, f"Was {name} born in %s?", month, words.MONTHS, name)


def _price(draw: Draw) -> Fact:
    thing, number = draw.word(words.OBJECTS), draw.number(99)
    text = f"The {thing} costs {number} dollars."
    questions = (("number", f"How many dollars does the {thing} cost?", number),)
    return Fact(text, questions, f"Does the {thing} cost %s dollars?", number, _numbers(99))


def _music(draw: Draw) -> Fact:
    name, instrument = draw.name(), draw.word(words.INSTRUMENTS)
    questions = (
        ("instrument", f"What does {name} play?", instrument),
        ("name", f"Who plays the {instrument}?", name),
    )
    claim = f"Does {name} play the %s?"
    text = f"{name} plays the {instrument}."
    return Fact(text, questions, claim, instrument, words.INSTRUMENTS, name)


def _sky(draw: Draw) -> Fact:
    city, weather = draw.word(words.CITIES), draw.word(words.WEATHER)
    questions = (
        ("weather", f"How is the weather in {city}?", weather),
        ("place", f"Where is it {weather}?", city),
    )
    return Fact(
        f"It is {weather} in {city}.", questions, f"Is it %s in {city}?", weather, words.WEATHER
    )


_KINDS: tuple[Callable[[Draw], Fact], ...] = (
    *(_role, _container, _home, _deal, _train, _event, _pet),
    *(_taste, _where, _birth, _price, _music, _sky),
)


def draw_facts(source: random.Random, count: int, names: Sequence[str]) -> list[Fact]:
    """Facts of one clip, none about a word of another; at most two of a kind."""
    kinds = source.sample(_KINDS * 2, count)
    draw = Draw(source, names)
    return [kind(draw) for kind in kinds]


def draw_questions(
    source: random.Random, facts: Sequence[Fact], names: Sequence[str]
) -> list[Question]:
    """All questions about a clip: of each fact, and of the clip as a whole.

    "First" and "last" ask for people in the order of the clip. For "not mentioned", a question is
    drawn that facts of the same kinds with other words would answer.
    """
    found = [
        Question(kind, text, answer, index)
        for index, fact in enumerate(facts)
        for kind, text, answer in fact.questions
    ]
    people = [(index, fact.name) for index, fact in enumerate(facts) if fact.name]
    if len(people) > 1:
        found.append(Question("first", "Who is named first?", people[0][1], people[0][0]))
        found.append(Question("last", "Who is named last?", people[-1][1], people[-1][0]))
    found.append(Question("count", "How many people are named?", words.in_words(len(people))))
    for index in source.sample(range(len(facts)), 2):
        found.append(_claim(source, facts[index], index))
    found.append(_absent(source, facts, found, names))
    return found


def _claim(source: random.Random, fact: Fact, index: int) -> Question:
    true = source.random() < 0.5
    others = [word for word in fact.endings if word != fact.ending]
    ending = fact.ending if true else source.choice(others)
    return Question("claim", fact.claim % ending, "yes" if true else "no", index)


def _absent(
    source: random.Random, facts: Sequence[Fact], asked: Sequence[Question], names: Sequence[str]
) -> Question:
    """A question that no fact of this clip answers: about words that do not occur in it."""
    said = {word.strip(".") for fact in facts for word in fact.text.split()}
    known = {question.text for question in asked}
    while True:
        fact = source.choice(_KINDS)(Draw(source, names, set(said)))
        text = source.choice(fact.questions)[1]
        if text not in known:
            return Question("absent", text, "not mentioned")
