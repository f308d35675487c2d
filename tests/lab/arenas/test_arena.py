"""How answers are judged."""

from __future__ import annotations

import pytest

from fastav_plugin.lab.arenas.arena import BEGINS, HOLDS, judge


@pytest.mark.parametrize(
    ("answer", "begins", "holds"),
    [
        ("Pepper.", True, True),
        (' pepper", she said', True, True),
        ("Peppermint.", False, False),
        ("The cat is called Pepper.", False, True),
        ("", False, False),
    ],
)
def test_whole_words_count_whatever_their_case(answer: str, begins: bool, holds: bool) -> None:
    assert judge(answer, ("Pepper",), BEGINS) is begins
    assert judge(answer, ("Pepper",), HOLDS) is holds


def test_a_number_is_no_part_of_another() -> None:
    assert judge("8:10. The bus", ("8:10",), BEGINS)
    assert not judge("18:10", ("8:10",), HOLDS)
    assert not judge("3111", ("311",), BEGINS)


def test_one_of_several_answers_suffices() -> None:
    assert judge("two boxes", ("three", "two"), BEGINS)
