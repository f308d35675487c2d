"""The engine's invariants on VideoLLaMA2, loaded from the authors' layout."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from fastav_plugin import FastAVCache, FastAVConfig, attach, detach
from fastav_plugin.model_overrides.videollama2 import VideoLlama2ForConditionalGeneration
from fastav_plugin.upstream.arguments import cache_in
from tests.model_overrides.videollama2.checkpoint import tiny_model
from tests.model_overrides.videollama2.family import NAMES, load
from tests.support.cache_names import passing
from tests.support.cases import (
    METHODS,
    SHAPES,
    assert_close,
    check_fine_cut,
    config_of,
    keep_all_config,
    prune,
    pruned,
    reference,
    rows_of,
    stock,
)
from tests.support.model_types import require_sound_pipelines
from tests.support.oracle import STEPS, held_rows, masked_dense, run
from tests.support.small_models import snapshot

CLIPS, PARTS = NAMES
QUICK = {
    *product([CLIPS], ["sdpa"], ["single", "ragged"], METHODS),
    (CLIPS, "eager", "ragged", "fastav+divprune"),
    (CLIPS, "sdpa", "level", "fastav"),
    (PARTS, "sdpa", "ragged", "fastav+divprune"),
}
MATRIX = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in product(NAMES, ("sdpa", "eager"), SHAPES, METHODS)
]


@pytest.mark.parametrize("how", ["none", "hooks", "ratios"])
@pytest.mark.parametrize("shape", ["single", "ragged"])
@pytest.mark.parametrize("attention", ["sdpa", pytest.param("eager", marks=pytest.mark.slow)])
def test_keep_all_is_bit_identical(attention: str, shape: str, how: str) -> None:
    kept = prune(CLIPS, attention, rows_of(CLIPS, shape), keep_all_config(CLIPS, how))
    expected = stock(CLIPS, attention, shape)
    assert torch.equal(kept.run.tokens, expected.tokens)
    assert torch.equal(kept.run.logits, expected.logits)
    assert set(kept.lengths) == {kept.held[0].shape[1] + STEPS - 1}


@pytest.mark.parametrize(("name", "attention", "shape", "method"), MATRIX)
def test_pruned_equals_masked_dense(name: str, attention: str, shape: str, method: str) -> None:
    result = pruned(name, attention, shape, method)
    expected = reference(name, attention, rows_of(name, shape), result)
    assert_close(result.run.logits, expected.logits)
    dense = stock(name, attention, shape).logits[0, 0]
    # In "lopsided" the longer row has no media; the first one is always cut.
    assert (result.run.logits[0, 0] - dense).abs().max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_row_alone_equals_row_in_batch(method: str) -> None:
    together = pruned(CLIPS, "sdpa", "ragged", method)
    for index, item in enumerate(rows_of(CLIPS, "ragged")):
        tokens = together.run.tokens[index : index + 1]
        alone = prune(CLIPS, "sdpa", [item], config_of(CLIPS, method), forced=tokens)
        assert_close(together.run.logits[:, index : index + 1], alone.run.logits)
        for layer, mine in zip(together.held, alone.held, strict=True):
            assert layer[index, -len(item) :].tolist() == mine[0].tolist()


def test_layers_hold_what_the_schedule_says() -> None:
    result = pruned(CLIPS, "sdpa", "single", "fastav")
    # 68 rows: of 16 video and 32 audio tokens 26 go on, then 70 % of those each time.
    counts = [68, 68, 68, 46, 38, 32]
    assert result.lengths == [count + STEPS - 1 for count in counts]
    assert result.report.tokens_per_layer == [counts]


def test_fine_cuts_keep_what_is_attended_to_most() -> None:
    check_fine_cut(CLIPS, rows_of(CLIPS, "ragged"), pruned(CLIPS, "sdpa", "ragged", "fastav"))


def test_detach_leaves_nothing() -> None:
    model = load("sdpa")
    detach(model)
    before = snapshot(model)
    attach(model, config_of(CLIPS, "fastav"))
    assert snapshot(model) != before
    detach(model)
    assert snapshot(model) == before


def test_beams_and_several_answers(processor: Any, heard: Path, mute: Path) -> None:
    """Every beam of a row has the media of that row."""
    model: Any = tiny_model()
    model.generation_config.pad_token_id = 34
    inputs = dict(processor(video=[heard, mute, None], text=["What is seen?", "no?", "yes?"]))
    options = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 3}
    config = FastAVConfig(method="none")
    expected = model.generate(**inputs, **options, do_sample=False)
    try:
        found = model.generate(**inputs, **options, do_sample=False, **passing(FastAVCache(config)))
    finally:
        detach(model)
    assert torch.equal(found, expected)
    alone = dict(processor(video=heard, text="What is seen?"))
    one = model.generate(**alone, **options, do_sample=False)
    new = one.shape[1] - alone["input_ids"].shape[1]
    assert torch.equal(one[:, -new:], found[:2, -new:])


def test_clips_of_different_lengths_through_the_processor(
    processor: Any, official: Path, heard: Path, mute: Path
) -> None:
    """Files of 20 and 3 seconds and none, with and without sound, in one batch."""
    model = VideoLlama2ForConditionalGeneration.from_pretrained(official)
    model.generation_config = type(model.generation_config)(pad_token_id=34)
    inputs = dict(
        processor(video=[heard, mute, None], text=["What is heard?", "What is seen?", "yes?"])
    )
    length = inputs["input_ids"].shape[1]
    cache = FastAVCache(FastAVConfig.for_model(model, min_media_tokens=1))
    suppressed: dict[str, Any] = {"suppress_tokens": [77, 78, 79]}
    try:
        found = run(model, inputs, cache, steps=3, **suppressed)
    finally:
        detach(model)
    held = held_rows(cache, length)
    expected = masked_dense(model, inputs, held, found.tokens, **suppressed)
    assert_close(found.logits, expected.logits)
    per_layer = cache.report(row=None).tokens_per_layer
    # 24 words, 16 video and 1496 audio tokens; of the sound ten are left from the middle on.
    assert [row[0] for row in per_layer] == [1536, 40, 21]
    assert per_layer[0][3:] == [50, 44, 40]


def test_attach_serves_generate_and_pipelines(processor: Any, mute: Path) -> None:
    model: Any = tiny_model()
    model.generation_config.pad_token_id = 34
    content = [{"type": "video", "path": str(mute)}, {"type": "text", "text": "What is seen?"}]
    chat = [{"role": "user", "content": content}]
    require_sound_pipelines()
    pipe: Any = pipeline("any-to-any", model=model, processor=processor)
    options = {"max_new_tokens": 4, "return_full_text": False}
    inputs = dict(processor(video=mute, text="What is seen?"))
    try:
        attach(model, FastAVConfig.for_model(model, min_media_tokens=1, fine_drop_ratio=0.6))
        out = model.generate(
            **inputs, max_new_tokens=4, do_sample=False, return_dict_in_generate=True
        )
        assert isinstance(cache_in(out), FastAVCache)
        assert cache_in(out).report().flops_ratio < 1
        new = out.sequences[0, inputs["input_ids"].shape[1] :]
        said = pipe(text=chat, generate_kwargs={"do_sample": False}, **options)
        answer = processor.decode(new, skip_special_tokens=True)
        assert said[0]["generated_text"].strip() == answer.strip()
    finally:
        detach(model)
