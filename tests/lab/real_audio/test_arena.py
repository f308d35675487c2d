"""Which questions of a clip are asked, and where in the prompt their answers are heard."""

from pathlib import Path
from random import Random

import pytest

from fastav_plugin.lab.real_audio.arena import choose, evidence_of, kind_of, place_of
from fastav_plugin.lab.real_audio.shipped import Asked, ShippedClip

WORDS = (
    Asked("name", "Who lives in Rome?", "Anna", 0),
    Asked("number", "How many books are there?", "three", 1),
    Asked("day", "On which day is the party?", "Friday", 2),
)
WHOLE = (
    Asked("first", "Who is named first?", "Anna", 0),
    Asked("count", "How many people are named?", "two", None),
    Asked("absent", "Who has the cat?", "not mentioned", None),
)


def clip(new_names: bool = False) -> ShippedClip:
    return ShippedClip(
        path=Path("none.opus"),
        name="test-00000",
        sentences=("Anna lives in Rome.", "Peter bought three books.", "The party is on Friday."),
        spans=((0.5, 2.1), (3.0, 5.0), (6.0, 8.0)),
        questions=(*WORDS, *WHOLE),
        seconds=9.0,
        new_names=new_names,
    )


def test_places_are_thirds_of_the_clip() -> None:
    assert [place_of(clip(), each) for each in WORDS] == ["early", "middle", "late"]
    assert place_of(clip(), WHOLE[1]) == ""


@pytest.mark.parametrize(
    ("number", "kind"), [(0, "first"), (1, "count"), (2, "count"), (3, "absent")]
)
def test_a_clip_is_asked_about_each_place_and_one_thing_more(number: int, kind: str) -> None:
    chosen = choose(Random(0), clip(), number)
    assert chosen[:3] == list(WORDS)
    assert [each.kind for each in chosen[3:]] == [kind]


def test_a_place_without_words_is_made_up_for() -> None:
    whole = clip()
    found = ShippedClip(**vars(whole) | {"spans": ((0.1, 1.0), (1.1, 2.0), (2.1, 2.9))})
    chosen = choose(Random(0), found, 0)
    assert set(chosen[:3]) == set(WORDS)


def test_evidence_is_where_the_sentence_is_heard() -> None:
    # 25 tokens a second, behind one token: 3 to 5 s.
    assert list(evidence_of(clip(), WORDS[1])) == list(range(76, 126))
    # 0.5 to 2.1 s: the tokens that it touches.
    assert list(evidence_of(clip(), WORDS[0])) == list(range(13, 54))
    assert list(evidence_of(clip(), WHOLE[2])) == []


def test_new_names_are_a_kind_of_their_own() -> None:
    assert kind_of(clip(), WORDS[0]) == "word"
    assert kind_of(clip(new_names=True), WORDS[0]) == "new name"
    assert kind_of(clip(new_names=True), WORDS[1]) == "word"
    assert kind_of(clip(), WHOLE[1]) == "count"
