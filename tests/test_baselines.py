"""Every registered method against masked dense, whatever it is: a new one joins by its name."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from fastav_plugin import ConfigError, FastAVConfig, Modality
from fastav_plugin.hooks import METHODS, method_hooks
from tests.cases import METHODS as MATRIX
from tests.cases import (
    Pruned,
    assert_close,
    config_of,
    held_of,
    media_in,
    prune,
    reference,
    rows_of,
)
from tests.families import FAMILIES
from tests.family_configs import LAYERS

#: What the main matrix goes through already, alone or as a part.
COVERED = {"none", "fine_pruning", "global_pruning", "div_prune", *MATRIX}

#: Settings under which each method cuts something of the tiny prompts; others take the first.
USUAL: dict[str, Any] = {"visual_keep_ratio": 0.4, "audio_keep_ratio": 0.6}
SETTINGS: dict[str, dict[str, Any]] = {}

ALONE = sorted(set(METHODS) - COVERED)
COMPOSED = ["fastav+late_removal", "divprune+adaptive", "random+fine_pruning"]
COMPOSED += ["divprune+rollout_guided"]
QUICK_FAMILIES = ("omni_interleaved", "llama_text")

#: Methods that the deepstack layers of a family forbid, or its attention.
NO_ROLLOUT = {"gemma3": "rollout"}


def settings(method: str) -> dict[str, Any]:
    return {**USUAL, **SETTINGS.get(method, {})}


@functools.cache
def pruned(name: str, attention: str, shape: str, method: str) -> Pruned:
    config = config_of(name, method, **settings(method))
    return prune(name, attention, rows_of(name, shape), config, steps=3)


def _cases() -> list[Any]:
    quick = [
        (name, attention, "ragged", method)
        for method in (*ALONE, *COMPOSED)
        for name, attention in zip(QUICK_FAMILIES, ("sdpa", "eager"), strict=True)
    ]
    slow = [
        pytest.param(name, attention, shape, method, marks=pytest.mark.slow)
        for name in FAMILIES
        for attention in ("sdpa", "eager")
        for shape in ("single", "ragged", "level", "lopsided")
        for method in (*ALONE, *COMPOSED)
        if (name, attention, shape, method) not in quick
    ]
    return [*quick, *slow]


def _forbidden(name: str, method: str) -> str | None:
    """Why a family does not take a method, as it says so."""
    hooks = method_hooks(FastAVConfig(method=method))
    if name == "gemma3" and any(hook.needs_rollout for hook in hooks):
        return "sliding window"
    places = hooks.places(LAYERS)
    if name == "qwen3_vl" and any(0 < place < 2 for place in places):
        return "visual features after each"
    return None


@pytest.mark.parametrize(("name", "attention", "shape", "method"), _cases())
def test_equals_masked_dense(name: str, attention: str, shape: str, method: str) -> None:
    items = rows_of(name, shape)
    reason = _forbidden(name, method)
    if reason is not None:
        with pytest.raises(ValueError, match=reason) as caught:
            prune(name, attention, items, config_of(name, method, **settings(method)))
        assert type(caught.value).__module__ == "fastav_plugin.errors"
        return
    result = pruned(name, attention, shape, method)
    assert_close(result.run.logits, reference(name, attention, items, result).logits)
    cut = 0
    for index, item in enumerate(items):
        words = {row for row, kind in enumerate(item.kinds) if kind == Modality.TEXT}
        before = set(range(len(item)))
        for rows in held_of(result, index, item):
            assert words <= set(rows) <= before
            cut += len(before) - len(rows)
            before = set(rows)
    assert cut > 0


@pytest.mark.parametrize("method", [*ALONE, *COMPOSED])
def test_a_row_alone_is_the_row_in_a_batch(method: str) -> None:
    name = "llama_text"
    items = rows_of(name, "ragged")
    batch = pruned(name, "sdpa", "ragged", method)
    alone = prune(name, "sdpa", items[:1], config_of(name, method, **settings(method)), steps=3)
    assert held_of(alone, 0, items[0]) == held_of(batch, 0, items[0])
    assert_close(alone.run.logits[:, 0], batch.run.logits[:, 0])


@pytest.mark.parametrize("method", ["vtw", "late_removal", "seats", "fastav+late_removal"])
def test_methods_that_mean_it_leave_no_media(method: str) -> None:
    result = pruned("llama_text", "eager", "ragged", method)
    for index, item in enumerate(rows_of("llama_text", "ragged")):
        assert media_in(item, held_of(result, index, item)[-1]) == []


@pytest.mark.parametrize("method", [*ALONE, *COMPOSED])
def test_configs_survive_their_file(method: str, tmp_path: Any) -> None:
    hooks = method_hooks(FastAVConfig(method=method, **settings(method)))
    config = FastAVConfig(hooks=hooks)
    config.save_pretrained(tmp_path)
    again = method_hooks(FastAVConfig.from_pretrained(tmp_path))
    assert [hook.to_dict() for hook in again] == [hook.to_dict() for hook in hooks]
    assert [type(hook) for hook in again] == [type(hook) for hook in hooks]


def test_layers_that_a_model_lacks_are_refused() -> None:
    for method in ("vtw", "adaptive", "random", "fastv"):
        with pytest.raises(ConfigError, match=r"\[1, 5\].*got 6"):
            method_hooks(FastAVConfig(method=method, global_layer=6)).places(LAYERS)


def test_random_draws_for_each_prompt_and_seed() -> None:
    name = "llama_text"
    items = rows_of(name, "ragged")[:1]
    held = {
        seed: held_of(
            prune(
                name,
                "sdpa",
                items,
                config_of(
                    name,
                    "none",
                    hooks=[{"name": "random", "visual_keep_ratio": 0.5, "seed": seed}],
                ),
                steps=1,
            ),
            0,
            items[0],
        )[-1]
        for seed in (0, 1)
    }
    assert held[0] != held[1]
    assert len(held[0]) == len(held[1])
    assert torch.initial_seed() is not None
