"""Sliding layers: windows that are shorter than the prompt, and that move on in decode."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, FastAVConfig, FastAVError, TokenMap, detach
from tests.support.attentions import FLASH, FLEX, flash_registered, uncompiled_flex
from tests.support.cases import assert_close
from tests.support.families import map_of
from tests.support.family_configs import hub, spread, text_config
from tests.support.family_prompts import plain_text
from tests.support.oracle import Run, held_rows, hidden, masked_dense, run
from tests.support.prompts import PAD, Row, collate, lengthen, row, words

STEPS = 12
MIXED = ["sliding_attention", "full_attention"] * 3


@functools.cache
def _model(kind: str, window: int, attention: str = "sdpa") -> Any:
    """Models whose layers all slide (Mistral), or every other one (Qwen2, Gemma 3)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        config: Any
        if kind == "mistral":
            config = hub.MistralConfig(**text_config(sliding_window=window))
        elif kind == "gemma3_text":
            config = hub.Gemma3TextConfig(
                **text_config(
                    head_dim=12,
                    query_pre_attn_scalar=12,
                    sliding_window=window,
                    layer_types=MIXED,
                )
            )
        else:
            config = hub.Qwen2Config(
                **text_config(
                    use_sliding_window=True,
                    sliding_window=window,
                    layer_types=MIXED if kind == "qwen2" else MIXED[::-1],
                )
            )
        head = hub.AutoModelForCausalLM
        start = "sdpa" if attention == FLASH else attention
        model = head.from_config(config, attn_implementation=start)
        spread(model)
    if attention == FLASH:
        model.config._attn_implementation_internal = FLASH
    model.generation_config = hub.GenerationConfig(pad_token_id=PAD)
    return model.eval()


CONFIGS = {
    "fastav": FastAVConfig(
        global_rule={"video": "first 20 tokens", "audio": "first 10 tokens"},
        fine_drop_ratio=0.25,
        min_media_tokens=1,
    ),
    "divprune": FastAVConfig(method="divprune", audio_keep_ratio=0.4, min_media_tokens=1),
}
KINDS = ["mistral", "gemma3_text", "qwen2", "qwen2_reversed"]

each_kind = pytest.mark.parametrize("kind", KINDS)
each_config = pytest.mark.parametrize("method", CONFIGS)


def _rows(shape: str) -> list[Row]:
    long, short, none = plain_text()
    return {
        "single": [long],
        "ragged": [long, short, none],
        "level": [long, lengthen(short, len(long))],
    }[shape]


def _prune(model: Any, items: list[Row], config: FastAVConfig, **options: Any) -> tuple[Run, Any]:
    cache = FastAVCache(config, map_of(items))
    try:
        return run(model, collate(items), cache, steps=STEPS, **options), cache
    finally:
        detach(model)


@pytest.mark.parametrize(
    ("attention", "shape"), [("sdpa", "single"), ("sdpa", "level"), ("eager", "ragged")]
)
# Below the prompt; reached while generating.
@pytest.mark.parametrize("window", [9, 40, 72])
@each_config
@each_kind
def test_windows_see_original_positions(
    kind: str, method: str, window: int, attention: str, shape: str
) -> None:
    model = _model(kind, window, attention)
    items = _rows(shape)
    inputs = collate(items)
    result, cache = _prune(model, items, CONFIGS[method])
    held = held_rows(cache, inputs["input_ids"].shape[1])
    assert int(held[-1][0].sum()) < len(items[0])
    assert_close(result.logits, masked_dense(model, inputs, held, result.tokens).logits)


@pytest.mark.parametrize(
    ("kind", "window", "shape", "method"),
    [
        ("gemma3_text", 9, "ragged", "divprune"),
        ("mistral", 40, "single", "fastav"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in itertools.product(KINDS, (9, 40, 72), ("ragged", "level"), CONFIGS)
        ),
    ],
)
def test_flex_windows_see_original_positions(
    kind: str, window: int, shape: str, method: str
) -> None:
    items = _rows(shape)
    inputs = collate(items)
    with uncompiled_flex():
        result, cache = _prune(_model(kind, window, FLEX), items, CONFIGS[method])
    held = held_rows(cache, inputs["input_ids"].shape[1])
    expected = masked_dense(_model(kind, window), inputs, held, result.tokens)
    assert_close(result.logits, expected.logits)


@pytest.mark.parametrize("shape", ["single", "ragged"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("window", [9, 72])
@each_kind
def test_keeping_all_of_a_sliding_model(kind: str, window: int, attention: str, shape: str) -> None:
    """Bit-identical before the window moves; sliding layers keep their tokens, so 1e-6 after."""
    model = _model(kind, window, attention)
    items = _rows(shape)
    expected = run(model, collate(items), steps=STEPS)
    result, _ = _prune(model, items, FastAVConfig(method="none"))
    assert torch.equal(result.tokens, expected.tokens)
    assert torch.equal(result.logits[0], expected.logits[0])
    torch.testing.assert_close(result.logits, expected.logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("turn", ["words", "media"])
@pytest.mark.parametrize("window", [9, 40, 72])
@each_config
@each_kind
def test_later_turns_slide_on(kind: str, method: str, window: int, turn: str) -> None:
    """Several input tokens at once, each with a window of its own; media among them are cut."""
    model = _model(kind, window)
    items = _rows("ragged")
    inputs = collate(items)
    more = items[::-1] if turn == "media" else [row(words(seed, 7)) for seed in range(3)]
    turns = collate(more)
    cache = FastAVCache(CONFIGS[method], map_of(items))

    def later(sequences: Tensor) -> dict[str, Tensor]:
        ids = torch.cat([sequences, turns["input_ids"]], dim=1)
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 3), value=1)
        mask = torch.cat([mask, turns["attention_mask"]], dim=1)
        return {"input_ids": ids, "attention_mask": mask}

    try:
        first = run(model, inputs, cache, steps=3)
        cache.tokens = map_of(items).extend(3).followed_by(map_of(more))
        second = run(model, later(first.output.sequences), cache)
    finally:
        detach(model)
    held = held_rows(cache, cache.tokens.length)
    # A dense cache of full-length layers: a sliding one would have forgotten tokens in between.
    with hidden(model, held):
        ids = later(first.output.sequences)
        dense = hub.DynamicCache(config=model.config)
        run(model, inputs, dense, forced=first.tokens, steps=3)
        expected = run(model, ids, dense, forced=second.tokens)
    assert_close(second.logits, expected.logits)


@pytest.mark.parametrize("window", [9, 40, 72, 500])
@pytest.mark.parametrize("shape", ["single", "ragged"])
@each_config
@each_kind
def test_flash_is_right_or_refused(kind: str, method: str, shape: str, window: int) -> None:
    """The window of flash attention counts indices: where that differs there is an error."""
    items = _rows(shape)
    inputs = collate(items)
    with flash_registered():
        model = _model(kind, window, FLASH)
        try:
            result, cache = _prune(model, items, CONFIGS[method])
        except FastAVError as error:
            assert "sliding" in str(error).lower()
            assert window < inputs["input_ids"].shape[1] + STEPS
            # The model is usable afterwards.
            assert run(model, inputs, steps=2).logits.isfinite().all()
            return
    held = held_rows(cache, inputs["input_ids"].shape[1])
    sdpa = _model(kind, window)
    assert_close(result.logits, masked_dense(sdpa, inputs, held, result.tokens).logits)


def test_a_map_of_another_prompt_is_refused() -> None:
    model = _model("mistral", 40)
    with pytest.raises(FastAVError, match="TokenMap"):
        try:
            run(model, collate(_rows("single")), FastAVCache(tokens=TokenMap.from_spans(5)))
        finally:
            detach(model)
