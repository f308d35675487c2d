from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from fastav_plugin.lab.testbed.evaluate import answer_items
from fastav_plugin.lab.testbed.model import MODEL_PATH, prepare_inputs
from fastav_plugin.lab.testbed.samples import SAMPLES, SampleClip
from fastav_plugin.lab.testbed.tasks import held_out_items
from fastav_plugin.media.clips import read_clip


@pytest.fixture(scope="module")
def processor() -> Any:
    return Qwen2_5OmniProcessor.from_pretrained(MODEL_PATH)


@pytest.fixture(scope="module")
def model() -> Any:
    return Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        MODEL_PATH, dtype=torch.float32
    )


def test_the_shipped_files_are_small() -> None:
    assert sum(file.stat().st_size for file in MODEL_PATH.iterdir()) < 20_000_000


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_it_answers_the_questions_about_the_shipped_clips(
    sample: SampleClip, model: Any, processor: Any
) -> None:
    media = read_clip(sample.path)
    for question in sample.questions():
        inputs = prepare_inputs(processor, *media, question.text)
        generated = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
        answers = processor.batch_decode(generated, skip_special_tokens=True)
        assert [answer.strip() for answer in answers] == [question.answer], question.text


@pytest.mark.parametrize("combinations", [pytest.param(False, marks=pytest.mark.slow), True])
def test_it_answers_held_out_questions(combinations: bool, model: Any, processor: Any) -> None:
    items = held_out_items(6, combinations=combinations)
    right = sum(
        answer == item.question.answer for item, answer in answer_items(model, processor, items)
    )
    assert right / len(items) >= 0.9
