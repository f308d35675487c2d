from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from fastav_plugin.lab.testbed.model import build_model, build_processor, prepare_inputs
from fastav_plugin.lab.testbed.picture import frame_times, render_frames
from fastav_plugin.lab.testbed.sound import render_waveform
from fastav_plugin.lab.testbed.tasks import training_questions
from fastav_plugin.lab.testbed.training import packing
from fastav_plugin.lab.testbed.training.batches import IGNORED, log_mel, make_batch, patchify
from fastav_plugin.lab.testbed.training.train import export
from fastav_plugin.lab.testbed.words import UNKNOWN
from fastav_plugin.lab.testbed.world import Difficulty, sample_clip

Media = tuple[
    "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]",
    "np.ndarray[tuple[int, ...], np.dtype[np.float32]]",
]


@pytest.fixture(scope="module")
def processor() -> Qwen2_5OmniProcessor:
    return build_processor()


def _render(seed: int, difficulty: Difficulty) -> Media:
    clip = sample_clip(seed, difficulty)
    return render_frames(clip, frame_times(clip, 2)), render_waveform(clip)


def test_most_of_a_prompt_is_media(processor: Qwen2_5OmniProcessor) -> None:
    inputs = prepare_inputs(processor, *_render(1, Difficulty()), "Do sound and picture match?")
    ids = inputs["input_ids"][0]
    media = torch.tensor([processor.tokenizer.video_token_id, processor.tokenizer.audio_token_id])
    assert len(ids) >= 300
    assert torch.isin(ids, media).float().mean() >= 0.85
    words = processor.tokenizer.convert_ids_to_tokens(ids[-8:])
    assert words == "do sound and picture match <|im_end|> <|im_start|> assistant".split()


def test_unknown_words_and_case(processor: Qwen2_5OmniProcessor) -> None:
    tokens = processor.tokenizer.tokenize("Which COLOR is a zebra?")
    assert tokens == ["which", "colour", "is", UNKNOWN]


def test_seeded_weights_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (build_model(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_training_features_equal_the_processor(processor: Qwen2_5OmniProcessor) -> None:
    frames, waveform = _render(2, Difficulty(4))
    inputs = prepare_inputs(processor, frames, waveform, "Which sound is heard?")
    patches = patchify(processor, torch.from_numpy(frames)[None])
    torch.testing.assert_close(patches, inputs["pixel_values_videos"], atol=1e-5, rtol=0)
    mel = log_mel(processor, torch.from_numpy(waveform)[None])
    valid = inputs["input_features"][..., : mel.shape[-1]]
    torch.testing.assert_close(mel, valid, atol=1e-5, rtol=0)
    assert int(inputs["feature_attention_mask"].sum()) == mel.shape[-1]


def test_a_packed_pass_equals_single_prompts(processor: Qwen2_5OmniProcessor) -> None:
    difficulty, seeds = Difficulty(2), range(5, 6)
    model, packed = build_model(), build_model()
    packing.use_packed_attention(packed)
    batch = make_batch(processor, difficulty, seeds, 4)
    with torch.no_grad():
        rows = packed.lm_head(packing.forward(packed, batch).hidden)
    for index, seed in enumerate(seeds):
        clip, rng = sample_clip(seed, difficulty), np.random.default_rng((seed, 5))
        for place, question in enumerate(training_questions(clip, rng, 4)):
            inputs = prepare_inputs(processor, *_render(seed, difficulty), question.text)
            with torch.no_grad():
                alone = model(**inputs).logits[0, -1]
            answer = int((batch.targets[index, place] != IGNORED).nonzero()[0])
            torch.testing.assert_close(rows[index, place, answer], alone, atol=1e-4, rtol=0)
            target = batch.targets[index, place, answer]
            assert processor.tokenizer.decode(target) == question.answer


def test_an_exported_model_loads_and_generates(
    processor: Qwen2_5OmniProcessor, tmp_path: Path
) -> None:
    export(build_model(), tmp_path)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size < 20_000_000
    loaded: Any = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(tmp_path)
    loaded_processor = Qwen2_5OmniProcessor.from_pretrained(tmp_path)
    media = _render(3, Difficulty(2))
    inputs = prepare_inputs(loaded_processor, *media, "Is the ring visible?")
    built = prepare_inputs(processor, *media, "Is the ring visible?")
    for name, value in built.items():
        assert torch.equal(torch.as_tensor(inputs[name]), torch.as_tensor(value)), name
    generated = loaded.generate(**inputs, max_new_tokens=2)
    assert generated.shape[1] > inputs["input_ids"].shape[1]
