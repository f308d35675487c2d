from __future__ import annotations

from fastav_plugin.lab.testbed.needles import EARLY, LATE, find_needle
from fastav_plugin.lab.testbed.tasks import TaskQuestion, held_out_items
from fastav_plugin.lab.testbed.world import Clip, Event, Thing


def thing(shape: int, onset: float, offset: float) -> Thing:
    return Thing(shape, 0, (50, 50), (0, 0), 20, 0, onset, offset)


CLIP = Clip(
    seed=0,
    seconds=8,
    things=(thing(0, 1, 8), thing(1, 0, 5)),
    events=(Event(2, 0.5, 1.5, 0.1, 1), Event(3, 4, 5, 0.1, 1)),
)


def test_the_middle_of_what_is_asked_for_decides() -> None:
    cases = {
        ("visible", "Is the circle visible?"): LATE,
        ("colour", "Which colour is the square?"): EARLY,
        ("visible", "Is the cross visible?"): None,
        ("heard", "Is the siren heard?"): EARLY,
        ("order", "When is the hum heard?"): LATE,
        ("heard", "Is the beep heard?"): None,
        ("match", "Do sound and picture match?"): None,
        ("sound", "Which sound is heard?"): EARLY,
    }
    for (task, text), expected in cases.items():
        assert find_needle(CLIP, TaskQuestion(task, text, "")) == expected


def test_questions_with_the_answer_early_or_late_have_that_needle() -> None:
    for item in held_out_items(20):
        found = find_needle(item.clip(), item.question)
        if item.question.task == "order":
            assert found == item.question.answer
        elif item.question.answer == "no" or item.question.task == "match":
            assert found is None
        else:
            assert found in (EARLY, LATE)


def test_other_clips_from_another_seed_on() -> None:
    near, far = (held_out_items(3, first_seed=seed) for seed in (0, 100_000))
    assert max(item.seed for item in near) < 100_000 <= min(item.seed for item in far)
    assert len(near) == len(far)
