"""Against scores of the reference implementation, written down from the same words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin.evaluation.cider import cider_d, words_of

CAPTIONS = [
    "A brown dog runs on the beach.",
    "two cats sleeping on a red sofa",
    "a man rides a bike, down the street",
]
REFERENCES = [
    ["A dog runs along the beach", "A brown dog is running on sand.", "The dog's wet from the sea"],
    ["Two cats sleep on a sofa", "a pair of cats lying on a red couch"],
    [
        "A man on a bicycle in the street.",
        "someone rides a bike down a road",
        "A cyclist isn't looking at cars",
        "A man rides a bike, down the street",
    ],
]
#: Of the reference implementation.
SCORES = [1.9920422635665544, 1.984403703992602, 3.99351071647805]


def test_scores_are_those_of_the_reference_implementation() -> None:
    assert cider_d(CAPTIONS, REFERENCES) == pytest.approx(SCORES, abs=1e-12)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("The dog's \"red-ish\" ball isn't there;", "the dog 's red-ish ball is n't there"),
        ("it's 3.5 m (away), don't go...", "it 's 3.5 m away do n't go"),
        ("A washer/dryer at 12:30 o'clock!", "a washer/dryer at 12:30 o'clock"),
        ("  ", ""),
    ],
)
def test_words(caption: str, words: str) -> None:
    assert words_of(caption) == words.split()


Sentence = st.lists(st.sampled_from("a dog cat runs sits red".split()), max_size=7).map(" ".join)
Pictures = st.lists(st.lists(Sentence, min_size=1, max_size=3), min_size=1, max_size=4)


@given(Pictures, st.data())
def test_bounds_and_order(references: list[list[str]], data: st.DataObject) -> None:
    captions = [data.draw(Sentence) for _ in references]
    scores = cider_d(captions, references)
    assert all(-1e-9 <= score <= 10 + 1e-9 for score in scores)
    turned = cider_d(captions[::-1], [texts[::-1] for texts in references[::-1]])
    assert turned[::-1] == pytest.approx(scores, abs=1e-9)
    same = cider_d([texts[0] for texts in references], [[texts[0]] for texts in references])
    single = cider_d(captions, [[texts[0]] for texts in references])
    assert all(best >= score - 1e-9 for best, score in zip(same, single, strict=True))


def test_one_picture_alone_scores_nothing() -> None:
    assert cider_d(CAPTIONS[:1], REFERENCES[:1]) == [0.0]
    assert cider_d([], []) == []
