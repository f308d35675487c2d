"""What a request is counted with is what its cache holds at the end."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import GenerationConfig

from fastav_plugin import FastAVCache, FastAVConfig, attach, detach
from fastav_plugin.serving.batching.admission import KvBudget, TooLargeError, planned_bytes
from fastav_plugin.serving.batching.request import Request
from tests.support.cache_names import passing
from tests.support.families import FAMILIES
from tests.support.prompts import PAD

NEW = 5


def request(inputs: dict[str, Any], config: FastAVConfig) -> Request:
    make: Any = GenerationConfig
    return Request(
        inputs=inputs,
        generation_config=make(max_new_tokens=NEW, pad_token_id=PAD, do_sample=False),
        tokenizer=None,
        config=config,
        streamer=None,
        on_report=lambda report: None,
        on_end=lambda tokens, error: None,
    )


def settings(method: str) -> FastAVConfig:
    return FastAVConfig(
        method=method,
        global_rule="all",
        fine_drop_ratio=0.3,
        visual_keep_ratio=0.5,
        audio_keep_ratio=0.5,
        min_media_tokens=1,
    )


@pytest.mark.parametrize("method", ["none", "divprune", "fastav", "fastav+divprune"])
@pytest.mark.parametrize("name", ["omni_all", "llava", "qwen2_5_vl"])
def test_the_plan_is_what_is_held(name: str, method: str) -> None:
    family = FAMILIES[name]
    model, config = family.model(), settings(method)
    inputs = family.batch(family.single())
    asked = request(inputs, config)
    attach(model, config)
    try:
        planned = planned_bytes(model, asked)
        cache = FastAVCache(config)
        model.generate(**inputs, generation_config=asked.generation_config, **passing(cache))
    finally:
        detach(model)
    assert planned == cache.report().kv_bytes


def test_a_budget_counts_what_runs() -> None:
    family = FAMILIES["omni_image"]
    model = family.model()
    inputs = family.batch(family.single())
    pruned, dense = (request(inputs, settings(method)) for method in ("divprune", "none"))
    attach(model, settings("divprune"))
    try:
        small, large = planned_bytes(model, pruned), planned_bytes(model, dense)
        budget = KvBudget(large + small - 1)
        assert budget.admits(model, pruned)
        assert not budget.admits(model, dense)
        budget.release(pruned)
        assert budget.admits(model, dense)
        assert budget.held == large
        with pytest.raises(TooLargeError, match="Ask for fewer tokens"):
            KvBudget(small - 1).admits(model, pruned)
    finally:
        detach(model)
    assert KvBudget(None).admits(model, dense)
    assert small < 0.8 * large
