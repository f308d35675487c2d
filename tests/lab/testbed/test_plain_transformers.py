"""The bundled model for whoever has its folder and transformers, and nothing of this package."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoProcessor
from transformers.video_utils import VideoMetadata

from fastav_plugin.lab.testbed.model import MODEL_PATH, build_processor, prepare_inputs
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.clips import read_clip
from tests.lab.testbed.plain_transformers import PIPELINES
from tests.support.model_types import require_sound_pipelines

PROGRAM = Path(__file__).with_name("plain_transformers.py")
#: 8 s at 2 pictures per second: 8 time steps of 4 x 4 tokens.
VIDEO_TOKENS = 128
QUESTION = "Which sound is heard?"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def answers(run_with_video: Run) -> dict[str, list[tuple[int, str]]]:
    asked = [(str(one.path), question.text) for one in SAMPLES for question in one.questions()]
    done = run_with_video([sys.executable, str(PROGRAM), str(MODEL_PATH), json.dumps(asked)])
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[tuple[int, str]]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("way", ["apply_chat_template", *PIPELINES])
def test_files_give_the_prompts_and_answers_of_the_demo(
    answers: dict[str, list[tuple[int, str]]], way: str
) -> None:
    if way == "any-to-any":
        require_sound_pipelines()
    right = [question.answer for one in SAMPLES for question in one.questions()]
    assert [tuple(found) for found in answers[way]] == [(VIDEO_TOKENS, word) for word in right]


def load() -> Any:
    auto: Any = AutoProcessor
    return auto.from_pretrained(MODEL_PATH)


def _inputs(processor: Any, frames: Any, waveform: Any, **settings: Any) -> Any:
    """The prompt of a clip whose frames, eight per second, the processor samples."""
    content = [{"type": "video"}, {"type": "audio"}, {"type": "text", "text": QUESTION}]
    return processor(
        text=processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        ),
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        video_metadata=[VideoMetadata(total_num_frames=len(frames), fps=8.0)],
        audio=[waveform],
        return_tensors="pt",
        **settings,
    )


@pytest.mark.parametrize("loaded", [True, False])
def test_the_processor_samples_and_resizes_as_the_model_was_trained(loaded: bool) -> None:
    """Eight frames per second go in, and what `prepare_inputs` makes of two comes out."""
    processor = load() if loaded else build_processor()
    frames, waveform = read_clip(SAMPLES[0].path, 8)
    assert len(frames) == 64
    inputs = _inputs(processor, frames, waveform)
    assert int((inputs["input_ids"] == processor.tokenizer.video_token_id).sum()) == VIDEO_TOKENS
    expected = prepare_inputs(processor, *read_clip(SAMPLES[0].path), QUESTION)
    assert inputs.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(torch.as_tensor(inputs[name]), torch.as_tensor(value)), name


def test_larger_pictures_are_resized() -> None:
    processor = load()
    frames, waveform = read_clip(SAMPLES[0].path, 8)
    large = np.ascontiguousarray(frames.repeat(5, axis=1).repeat(5, axis=2))
    inputs = _inputs(processor, large, waveform)
    assert int((inputs["input_ids"] == processor.tokenizer.video_token_id).sum()) == VIDEO_TOKENS


def test_a_number_of_frames_takes_the_place_of_the_rate() -> None:
    """As the model card says."""
    processor = load()
    media = read_clip(SAMPLES[0].path, 8)
    inputs = _inputs(processor, *media, num_frames=8, fps=None)
    assert inputs["video_grid_thw"].tolist() == [[4, 8, 8]]
    with pytest.raises(ValueError, match="mutually exclusive"):
        _inputs(processor, *media, num_frames=8)


def test_the_shipped_processor_is_the_built_one(tmp_path: Path) -> None:
    build_processor().save_pretrained(tmp_path)
    for name in ("processor_config.json", "tokenizer_config.json", "tokenizer.json"):
        built, shipped = (
            json.loads((folder / name).read_text()) for folder in (tmp_path, MODEL_PATH)
        )
        assert built == shipped, name
    name = "chat_template.jinja"
    assert (tmp_path / name).read_text() == (MODEL_PATH / name).read_text()
