"""Every registered method against masked dense, whatever it is: a new one joins by its name."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from fastav_plugin import ConfigError, FastAVConfig, FastAVError, Modality
from fastav_plugin.hooks import METHODS, method_hooks
from fastav_plugin.hooks.plannable import counts_vary, tunable_fields
from fastav_plugin.model_overrides.registry import GENERIC
from fastav_plugin.planning.dry_run import plan_prefill
from tests.support.cases import METHODS as MATRIX
from tests.support.cases import (
    Pruned,
    assert_close,
    config_of,
    held_of,
    media_in,
    prune,
    reference,
    rows_of,
)
from tests.support.families import FAMILIES, map_of
from tests.support.family_configs import LAYERS
from tests.support.prompts import Row, special

#: What the main matrix goes through already, alone or as a part.
COVERED = {"none", "fine_pruning", "global_pruning", *MATRIX}

#: Settings under which every method cuts something of the tiny prompts.
SETTINGS: dict[str, Any] = {"visual_keep_ratio": 0.4, "audio_keep_ratio": 0.6}

ALONE = sorted(set(METHODS) - COVERED)
COMPOSED = [
    "fastav+late_removal",
    "divprune+adaptive",
    "random+fine_pruning",
    "divprune+rollout_guided",
]
QUICK_FAMILIES = ("omni_interleaved", "llama_text")


@functools.cache
def pruned(name: str, attention: str, shape: str, method: str) -> Pruned:
    config = config_of(name, method, **SETTINGS)
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
        for attention, shape in (("sdpa", "ragged"), ("sdpa", "lopsided"), ("eager", "level"))
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
        with pytest.raises(FastAVError, match=reason):
            prune(name, attention, items, config_of(name, method, **SETTINGS))
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
    alone = prune(name, "sdpa", items[:1], config_of(name, method, **SETTINGS), steps=3)
    assert held_of(alone, 0, items[0]) == held_of(batch, 0, items[0])
    assert_close(alone.run.logits[:, 0], batch.run.logits[:, 0])


@pytest.mark.parametrize("method", ["vtw", "late_removal", "seats", "fastav+late_removal"])
def test_methods_that_mean_it_leave_no_media(method: str) -> None:
    result = pruned("llama_text", "eager", "ragged", method)
    for index, item in enumerate(rows_of("llama_text", "ragged")):
        assert media_in(item, held_of(result, index, item)[-1]) == []


@pytest.mark.parametrize("method", [*ALONE, *COMPOSED])
def test_configs_survive_their_file(method: str, tmp_path: Any) -> None:
    hooks = method_hooks(FastAVConfig(method=method, **SETTINGS))
    config = FastAVConfig(hooks=hooks)
    config.save_pretrained(tmp_path)
    again = method_hooks(FastAVConfig.from_pretrained(tmp_path))
    assert [hook.to_dict() for hook in again] == [hook.to_dict() for hook in hooks]
    assert [type(hook) for hook in again] == [type(hook) for hook in hooks]


def test_layers_that_a_model_lacks_are_refused() -> None:
    for method in ("vtw", "adaptive", "random", "fastav"):
        with pytest.raises(ConfigError, match=r"\[1, 5\].*got 6"):
            method_hooks(FastAVConfig(method=method, global_layer=6)).places(LAYERS)


def _last_rows(items: list[Row], seed: int) -> list[int]:
    hook = {"name": "random", "visual_keep_ratio": 0.5, "seed": seed}
    config = config_of("llama_text", "none", hooks=[hook])
    return held_of(prune("llama_text", "sdpa", items, config, steps=1), 0, items[0])[-1]


def test_random_draws_for_each_prompt_and_seed() -> None:
    item = rows_of("llama_text", "single")[0]
    other = Row((*item.pieces[:-1], special(*(number + 1 for number in item.pieces[-1].ids))))
    drawn = [_last_rows([item], 0), _last_rows([item], 1), _last_rows([other], 0)]
    assert _last_rows([item], 0) == drawn[0]
    assert drawn[0] != drawn[1] and drawn[0] != drawn[2]
    assert len(set(map(len, drawn))) == 1


@pytest.mark.parametrize("method", [*sorted(set(METHODS) - {"none"}), *COMPOSED])
def test_plans_count_what_is_kept(method: str) -> None:
    """Exactly, but for methods whose counts vary: those are bounded; and so is what it costs."""
    name = "llama_text"
    config = config_of(name, method, **SETTINGS)
    report = pruned(name, "sdpa", "ragged", method).report
    tokens, cost = map_of(rows_of(name, "ragged")), GENERIC.cost(FAMILIES[name].config())
    plan = plan_prefill(config, tokens, LAYERS, cost)
    assert plan.reason is None
    found, ratio = report.tokens_per_layer, plan.flops_ratio(cost, tokens.valid.sum(1).tolist())
    if counts_vary(method_hooks(config)):
        for mine, most in zip(found, plan.counts, strict=True):
            assert all(a <= b for a, b in zip(mine, most, strict=True))
        assert 0 < report.overhead_ratio < report.flops_ratio <= ratio
    else:
        assert found == plan.counts
        assert report.flops_ratio == ratio


@pytest.mark.parametrize("method", [*ALONE, *COMPOSED])
def test_budgets_are_met_by_methods_that_have_ratios(method: str) -> None:
    """What the chosen ratios really cost is at most the target, and near it."""
    name = "llama_text"
    config = FAMILIES[name].config()
    tokens = map_of(rows_of(name, "single"))
    given: dict[str, Any] = {"min_media_tokens": 1, "audio_keep_ratio": 0.9}
    given |= {"global_rule": "below 1000", "prompt": tokens}
    if not tunable_fields(method_hooks(FastAVConfig(method=method))):
        with pytest.raises(ConfigError, match="cannot be reached"):
            FastAVConfig.for_model(config, method, target_flops=0.05, **given)
        return
    chosen = FastAVConfig.for_model(config, method, target_flops=0.8, **given)
    result = prune(name, "sdpa", rows_of(name, "single"), chosen, steps=1)
    assert result.report.flops_ratio <= 0.8
    hooks = method_hooks(chosen)
    varies = counts_vary(hooks)
    assert ("at most" in chosen.describe()) == varies
    if not varies and "visual_keep_ratio" in tunable_fields(hooks):
        assert result.report.flops_ratio > 0.7
