"""Random rows of the suite: one draw per question, whatever its words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fastav_plugin import FastAVCache, FastAVConfig, Modality
from fastav_plugin.analysis import measured_run
from fastav_plugin.evaluation.answers_file import AnswerLog
from fastav_plugin.lab.papers.run import Suite, answer_suite, draw_for
from fastav_plugin.lab.papers.setting import PaperSetting, Solved
from fastav_plugin.lab.testbed.evaluation_source import make_question
from fastav_plugin.lab.testbed.model import build_model, build_processor
from fastav_plugin.lab.testbed.tasks import CLIPS, held_out_items
from tests.lab.papers.test_settings import BASE

ITEMS = [item for item in held_out_items(2) if item.question.task == "match"]


def found(*hooks: dict[str, Any]) -> Suite:
    """A suite of one setting for each hook."""
    solved = {
        str(place): Solved(
            PaperSetting(str(place), lambda _: []), FastAVConfig(hooks=[hook]), 0, 0, 0
        )
        for place, hook in enumerate(hooks)
    }
    return Suite(BASE, solved, [], {name: name for name in solved})


def test_the_same_words_about_other_clips_draw_other_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ratios = {"visual_keep_ratio": 0.2, "audio_keep_ratio": 0.2}
    suite = found({"name": "random", **ratios}, {"name": "uniform", **ratios})
    caches: list[FastAVCache] = []

    class Kept(FastAVCache):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            caches.append(self)

    monkeypatch.setattr(measured_run, "FastAVCache", Kept)
    model, processor = build_model(), build_processor()
    assert ITEMS[0].question.text == ITEMS[1].question.text
    assert ITEMS[0].seed != ITEMS[1].seed
    for item in (*ITEMS, ITEMS[0]):
        answer_suite(model, processor, suite, [item], AnswerLog(None, {}))
    one, even, other, as_even, again, _ = [
        cache.report().kept_positions(4, Modality.AUDIO) for cache in caches
    ]
    assert len(one) == len(other) > 30
    assert one != other
    assert one == again
    assert even == as_even


def test_a_draw_follows_from_seed_and_question_alone() -> None:
    one, other = (make_question(CLIPS, item) for item in ITEMS)
    hooks: list[dict[str, Any]] = [
        {"name": "random", "seed": 1, "layer": 4},
        {"name": "fine_pruning"},
    ]
    config = FastAVConfig(hooks=hooks)

    def drawn(question: Any, config: FastAVConfig = config) -> list[dict[str, Any]]:
        return list(draw_for(question, config).to_dict()["hooks"])

    assert drawn(one) == drawn(one) != drawn(other)
    assert drawn(one)[0] != drawn(replace(one, key="clips/0/visible"))[0]
    assert drawn(one, FastAVConfig(hooks=[{**hooks[0], "seed": 2}]))[0] != drawn(one)[0]
    # All but the seed stays, and what draws nothing is left alone.
    assert drawn(one)[1] == hooks[1]
    assert {**drawn(one)[0], "seed": 1} == hooks[0]
    plain = FastAVConfig(hooks=[{"name": "fine_pruning"}])
    assert draw_for(one, plain) is plain
