"""Passages hold each fact where they say, as often as they say, and follow from their seed."""

from __future__ import annotations

from collections import Counter

import pytest

from fastav_plugin import ConfigError
from fastav_plugin.lab.arenas.arena import PLACES, judge
from fastav_plugin.lab.real_text import PASSAGES
from fastav_plugin.lab.real_text.facts import COPY, KINDS
from fastav_plugin.lab.real_text.passages import make_passage


@pytest.mark.parametrize("kind", PASSAGES)
def test_facts_stand_in_their_third(kind: str) -> None:
    times = 3 if kind == "repeated" else 1
    for number in range(20):
        passage = make_passage(kind, 1, number)
        once = passage.text[: len(passage.text) // times]
        places = Counter(place for _, place in passage.facts)
        assert set(places) == set(PLACES)
        for fact, place in passage.facts:
            assert passage.text.count(fact.sentence) == times
            share = once.index(fact.sentence) / len(once)
            assert abs(share - (PLACES.index(place) + 0.5) / 3) < 0.28


def test_each_answer_is_said_by_its_fact_alone() -> None:
    for number in range(40):
        passage = make_passage("short", 2, number)
        for fact, _ in passage.facts:
            [answer] = fact.answers
            assert answer in fact.sentence
            assert fact.sentence.startswith(fact.begun)
            others = passage.text.replace(fact.sentence, "")
            assert not judge(others, fact.answers, "holds"), (fact, others)


def test_every_kind_is_asked() -> None:
    facts = [fact for fact, _ in make_passage("short", 0, 0).facts]
    assert {fact.kind for fact in facts} | {"bare"} == set(KINDS)
    assert sum(fact.bare for fact in facts) > 3
    assert all(fact.begun.endswith("the") for fact in facts if fact.kind == COPY)


def test_seeds_and_numbers_give_other_passages() -> None:
    first = make_passage("short", 0, 0)
    assert first == make_passage("short", 0, 0)
    assert len({make_passage("short", s, n).text for s in range(3) for n in range(3)}) == 9


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="short"):
        make_passage("tall", 0, 0)
