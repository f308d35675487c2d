"""The published rules, on answers as models write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.matching import CAPTION, LETTERS, RULES, judge, read_choice

OPTIONS = ("motorboat", "Yacht consignment", "a dog", "dog barks, loudly")


@pytest.mark.parametrize(
    ("rule", "text", "right", "expected"),
    [
        ("exact", "Two.", "two", ("two", 1.0)),
        ("exact", " acoustic_guitar . ", "acoustic_guitar", ("acoustic_guitar", 1.0)),
        ("exact", "more than ten", "More Than Ten", ("more than ten", 1.0)),
        ("exact", "two pianos", "two", ("two pianos", 0.0)),
        ("exact", "", "two", ("", 0.0)),
        ("yes-no", "Yes, the dog barks.", "yes", ("yes", 1.0)),
        ("yes-no", "There is no dog.", "no", ("no", 1.0)),
        ("yes-no", "No. Yes?", "no", ("yes", 0.0)),
        ("yes-no", "Maybe.", "yes", ("", 0.0)),
        ("strict-yes-no", " YES\n", "yes", ("yes", 1.0)),
        ("strict-yes-no", "yes.", "yes", ("", 0.0)),
        ("strict-yes-no", "no", "yes", ("no", 0.0)),
        ("first-sentence", "No, there is. Yes", "no", ("no", 1.0)),
        ("first-sentence", "It is not there", "no", ("no", 1.0)),
        ("first-sentence", "Nothing. no", "yes", ("yes", 1.0)),
        ("first-sentence", "", "no", ("yes", 0.0)),
        ("offline-match", "The shirt is dark blue.", "dark blue", ("dark blue", 1.0)),
        ("offline-match", "It is bluish", "blue", ("it is bluish", 0.0)),
        ("offline-match", "Yes", "yes", ("yes", 1.0)),
        ("offline-match", "?", "yes", ("", 0.0)),
        ("offline-match", "No, it is not, yes?", "no", ("no", 1.0)),
        ("offline-match", "Yes, he is", "no", ("yes", 0.0)),
        ("offline-match", "Of course", "yes", ("of course", 0.0)),
        (CAPTION, "A dog\n runs. ", "A cat.", ("A dog runs.", None)),
    ],
)
def test_rules(rule: str, text: str, right: str, expected: tuple[str, float | None]) -> None:
    assert judge(rule, text, (right,)) == expected


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("B", "yacht consignment"),
        ("b", "yacht consignment"),
        ("(B)", "yacht consignment"),
        ("B. Yacht consignment", "yacht consignment"),
        ("**B**", "yacht consignment"),
        ("B)", "yacht consignment"),
        ("The answer is B.", "yacht consignment"),
        ("Option: (B)", "yacht consignment"),
        ("B\nBecause I hear a motorboat", "yacht consignment"),
        ("The answer is B because I hear a dog", "yacht consignment"),
        ("Option B is correct", "yacht consignment"),
        ("The answer is C major", ""),
        ("A dog", "a dog"),
        ("The answer is A dog", "a dog"),
        ("D'oh", ""),
        ("It is a motorboat", "motorboat"),
        ("Dog barks loudly!", "dog barks loudly"),
        ("I hear a dog", "a dog"),
        ("a dog and a motorboat", ""),
        ("Z", ""),
        ("F. something", ""),
        ("a cat", ""),
        ("", ""),
    ],
)
def test_choices(text: str, read: str) -> None:
    assert read_choice(text, (), OPTIONS) == read
    assert judge("choice", text, (OPTIONS[1],), OPTIONS)[1] == float(read == "yacht consignment")


def test_options_within_options_do_not_count_twice() -> None:
    options = ("guitar", "bass guitar", "drum")
    assert read_choice("I hear a bass guitar.", (), options) == "bass guitar"
    assert read_choice("I hear a guitar.", (), options) == "guitar"
    assert read_choice("guitar and drum", (), options) == ""


Words = st.text("abcxyz ", min_size=2, max_size=8).map(lambda t: " ".join(t.split()))
Choices = st.lists(Words.filter(lambda w: len(w) > 1), min_size=2, max_size=5, unique=True)


@given(Choices, st.data())
def test_every_option_is_found_by_letter_and_by_text(
    choices: list[str], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(choices) - 1))
    letter, right = LETTERS[place], (choices[place],)
    for text in (letter, f"{letter}.", f"({letter}) {choices[place]}", f"The answer is {letter}"):
        assert judge("choice", text, right, choices) == (choices[place], 1.0)
    assert judge("choice", f" {choices[place].upper()}. ", right, choices)[1] == 1.0


@given(st.text(max_size=30), st.lists(Words, min_size=1, max_size=3), Choices)
def test_every_rule_takes_any_text(text: str, right: list[str], choices: list[str]) -> None:
    for rule in RULES:
        read, score = judge(rule, text, right, choices)
        assert isinstance(read, str)
        assert (score is None) == (rule == CAPTION)
        assert score in (None, 0.0, 1.0)
        if not read:
            assert not score


@given(st.sampled_from(["exact", "offline-match", "yes-no", "strict-yes-no"]), st.text(max_size=9))
def test_reading_does_not_mind_case_and_blanks(rule: str, text: str) -> None:
    plain = text.encode("ascii", "ignore").decode().strip()
    assert (
        judge(rule, plain.upper(), ("yes",))[0] == judge(rule, f" {plain.lower()}\t", ("yes",))[0]
    )


@given(st.sampled_from(["exact", "offline-match"]), Words.filter(bool))
def test_the_right_answer_is_right(rule: str, word: str) -> None:
    assert judge(rule, f"{word.title()}.", ("other", word)) == (word, 1.0)


def test_an_unknown_rule() -> None:
    with pytest.raises(ConfigError, match="Unknown matching rule 'loose'. Known: exact"):
        judge("loose", "yes", ("yes",))
