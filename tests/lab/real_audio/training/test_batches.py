"""Batches hold every clip once and stay within their size."""

import random
from typing import Any

import pytest

from fastav_plugin.lab.real_audio.training.alignment import distance
from fastav_plugin.lab.real_audio.training.batches import draw_batches, draw_branches


class Letters:
    """Stands for a tokenizer: a token for each letter."""

    def question(self, text: str) -> list[int]:
        return [ord(letter) for letter in f"?{text}"]

    def answer(self, text: str) -> list[int]:
        return [*self.words(text), 0]

    def words(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def transcript(self) -> list[int]:
        return [1]


RECORD: dict[str, Any] = {
    "sentences": ["ab.", "cd."],
    "questions": [
        {"kind": "name", "text": "a", "answer": "b"},
        {"kind": "day", "text": "c", "answer": "d"},
        {"kind": "count", "text": "n", "answer": "two"},
    ],
}


def test_every_clip_is_drawn_once() -> None:
    source = random.Random(0)
    records = [{"name": index, "frames": source.randint(50, 400)} for index in range(500)]
    batches = list(draw_batches(source, records, 4000, extra=20))
    assert sorted(each["name"] for batch in batches for each in batch) == list(range(500))
    sizes = [len(batch) * (max(each["frames"] for each in batch) + 20) for batch in batches]
    assert max(sizes) <= 4000
    # Clips of similar length are together: little is padding.
    real = sum(each["frames"] + 20 for each in records)
    assert sum(sizes) < 1.1 * real


def test_one_question_is_of_another_kind() -> None:
    letters: Any = Letters()
    kinds: list[str] = []
    for seed in range(100):
        branches = draw_branches(random.Random(seed), RECORD, letters, lookups=2, transcript=0.5)
        kinds += [branch.kind for branch in branches]
        assert [branch.kind for branch in branches][0] == "count"
        for branch in branches:
            if branch.kind == "second":
                # The first question and its answer, without an end, stand before it.
                assert branch.prompt[:5] == [ord(letter) for letter in "?ntwo"]
    assert kinds.count("count") == 100
    assert kinds.count("lookup") + kinds.count("second") == 200
    assert 10 < kinds.count("second") < 50
    assert 30 < kinds.count("transcript") < 70


@pytest.mark.parametrize(
    ("first", "second", "edits"),
    [([1, 2, 3], [1, 2, 3], 0), ([1, 3], [1, 2, 3], 1), ([], [4, 4], 2), ([1, 2], [2, 1], 2)],
)
def test_edit_distance(first: list[int], second: list[int], edits: int) -> None:
    assert distance(first, second) == edits
    assert distance(second, first) == edits
