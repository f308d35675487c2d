"""Facts contradict no other, and each question has one right answer."""

import random

import pytest

from fastav_plugin.lab.real_audio.training.facts import Fact, draw_facts, draw_questions
from fastav_plugin.lab.real_audio.training.vocabulary import NAMES, TEST_NAMES, in_words

MANY = range(150)


def drawn(seed: int) -> tuple[random.Random, list[Fact]]:
    source = random.Random(seed)
    return source, draw_facts(source, source.randint(2, 6), NAMES)


def spoken(text: str) -> set[str]:
    return set(text.rstrip(".").split())


@pytest.mark.parametrize(
    ("number", "words"), [(0, "zero"), (13, "thirteen"), (20, "twenty"), (99, "ninety nine")]
)
def test_numbers_in_words(number: int, words: str) -> None:
    assert in_words(number) == words


def test_names_of_tests_are_new() -> None:
    assert not set(NAMES) & set(TEST_NAMES)
    assert len(NAMES) == len(set(NAMES)) > 100


def test_answers_are_said_in_their_fact() -> None:
    for seed in MANY:
        source, facts = drawn(seed)
        for question in draw_questions(source, facts, NAMES):
            if question.fact is not None and question.kind != "claim":
                assert spoken(question.answer) <= spoken(facts[question.fact].text)


def test_a_question_of_a_word_has_one_answer() -> None:
    for seed in MANY:
        source, facts = drawn(seed)
        answers: dict[str, str] = {}
        for question in draw_questions(source, facts, NAMES):
            assert answers.setdefault(question.text, question.answer) == question.answer


def test_whole_clip_questions_are_counted_from_the_facts() -> None:
    for seed in MANY:
        source, facts = drawn(seed)
        people = [fact.name for fact in facts if fact.name]
        assert len(people) == len(set(people))
        found = {each.kind: each.answer for each in draw_questions(source, facts, NAMES)}
        assert found["count"] == in_words(len(people))
        if len(people) > 1:
            assert (found["first"], found["last"]) == (people[0], people[-1])
        else:
            assert "first" not in found


def test_claims_are_true_where_the_answer_is_yes() -> None:
    answers = []
    for seed in MANY:
        source, facts = drawn(seed)
        for question in draw_questions(source, facts, NAMES):
            if question.kind == "claim":
                assert question.fact is not None
                fact = facts[question.fact]
                assert (question.text == fact.claim % fact.ending) == (question.answer == "yes")
                answers.append(question.answer)
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_absent_things_are_not_said() -> None:
    for seed in MANY:
        source, facts = drawn(seed)
        questions = draw_questions(source, facts, NAMES)
        absent = next(each for each in questions if each.kind == "absent")
        others = {each.text for each in questions if each is not absent}
        assert absent.text not in others
        names = {fact.name for fact in facts if fact.name}
        assert not names & spoken(absent.text.rstrip("?"))
