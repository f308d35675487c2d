"""Another question about the same clip: alone, as the next turn, and instead of the first."""

import json
from collections import defaultdict
from itertools import groupby

import pytest
from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration
from typer.testing import CliRunner

from fastav_plugin import FastAVConfig, detach
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.tasks import held_out_items
from fastav_plugin.lab.testbed.training import second_question
from fastav_plugin.lab.testbed.training.second_question import (
    ALONE,
    INSTEAD,
    NEXT_TURN,
    second_answers,
)


@pytest.mark.parametrize("method", ["none", "fastav+divprune"])
def test_each_way_answers_in_a_word(method: str) -> None:
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(MODEL_PATH)
    processor = Qwen2_5OmniProcessor.from_pretrained(MODEL_PATH)
    groups = groupby(held_out_items(2), key=lambda item: item.seed)
    items = next(found for _, group in groups if len(found := list(group)) > 2)
    config = FastAVConfig.from_pretrained(MODEL_PATH).replace(method=method)
    answers: dict[str, list[str]] = defaultdict(list)
    for way, _, answer in second_answers(model, processor, items, config):
        answers[way].append(answer)
    detach(model)
    assert set(answers) == {ALONE, NEXT_TURN, INSTEAD}
    assert {len(words) for words in answers.values()} == {len(items) - 1}
    assert all(word.isalpha() for words in answers.values() for word in words)
    if method == "none":  # a question taken back has left no trace
        assert answers[INSTEAD] == answers[ALONE]


def test_the_command_prints_shares() -> None:
    from typer import Typer

    app = Typer()
    app.command()(second_question.measure)
    done = CliRunner().invoke(app, ["--clips", "1"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    assert set(report["accuracy"]) == set(second_question.METHODS)
    for ways in report["accuracy"].values():
        assert all(0 <= share <= 1 for share in ways.values())
