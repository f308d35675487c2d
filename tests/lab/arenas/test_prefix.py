"""A passage prefilled once gives what prompts prefilled by themselves do: logits, tokens, FLOPs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVConfig
from fastav_plugin.hooks.base import HOOKS
from fastav_plugin.lab.arenas.arena import Question
from fastav_plugin.lab.arenas.measure import answer_dense, answer_pruned
from fastav_plugin.lab.arenas.prefix import BLIND, Prefixes, is_blind
from tests.support.tiny_arena import MEDIA, TinyArena

SHARED = MEDIA[1] + 1
RATIO = {"visual_keep_ratio": 0.3}
HOOKS_OF: dict[str, dict[str, Any]] = {
    "div_prune": RATIO,
    "div_prune_by_frame": RATIO,
    "seats_entrance": {"keep_ratio": 0.2},
    "omnipack_entrance": RATIO,
    "scope": RATIO,
    "uniform": RATIO,
    "global_pruning": {"rule": "first 30 tokens"},
    "vtw": {"layer": 2},
    "late_removal": {},
}


@pytest.fixture(scope="module")
def arena() -> TinyArena:
    return TinyArena.make()


@pytest.fixture(scope="module")
def questions(arena: TinyArena) -> list[Question]:
    """Two about one passage."""
    first, second = arena.questions(2, 0)
    ids = second.inputs["input_ids"].clone()
    ids[:, :SHARED] = first.inputs["input_ids"][:, :SHARED]
    inputs = {**second.inputs, "input_ids": ids}
    changes: list[dict[str, Any]] = [{}, {"inputs": inputs, "passage": first.passage}]
    return [
        dataclasses.replace(each, shared=SHARED, **more)
        for each, more in zip((first, second), changes, strict=True)
    ]


@pytest.mark.parametrize("name", sorted(BLIND))
def test_reuse_is_exact(arena: TinyArena, questions: list[Question], name: str) -> None:
    config = FastAVConfig(hooks=[{"name": name, **HOOKS_OF[name]}])
    prefixes = Prefixes(arena.model)
    for question in questions:
        assert prefixes.start(question, config) is not None
        dense = answer_dense(arena.model, arena.tokenizer, question, True)
        alone, whole = answer_pruned(arena.model, arena.tokenizer, question, config, dense, True)
        reused, _ = answer_pruned(
            arena.model, arena.tokenizer, question, config, dense, True, prefixes
        )
        assert reused.kl == pytest.approx(alone.kl, abs=1e-4)
        assert whole.flops_ratio < 1
        # FLOPs are planned: exactly what a report of the whole prompt says.
        for field in ("text", "agree", "second", "tokens", "flops_ratio"):
            assert getattr(reused, field) == getattr(alone, field), field


def test_dense_is_reused_too(arena: TinyArena, questions: list[Question]) -> None:
    prefixes = Prefixes(arena.model)
    for question in questions:
        alone = answer_dense(arena.model, arena.tokenizer, question, True)
        reused = answer_dense(arena.model, arena.tokenizer, question, True, prefixes)
        assert reused.outcome == alone.outcome
        assert torch.allclose(reused.logits, alone.logits, atol=1e-4)


def test_what_looks_at_the_question_is_prefilled_anew(
    arena: TinyArena, questions: list[Question]
) -> None:
    prefixes = Prefixes(arena.model)
    for name in ("fastav", "random", "cdpruner", "dart", "low_attentive", "divprune+fastv"):
        config = FastAVConfig(method=name)
        assert not is_blind(config)
        assert prefixes.start(questions[0], config) is None
    unshared = dataclasses.replace(questions[0], shared=0)
    assert prefixes.start(unshared, FastAVConfig(method="divprune")) is None


def test_what_reads_scores_is_not_called_blind() -> None:
    assert set(HOOKS) >= BLIND
    assert not [name for name in BLIND if HOOKS[name].needs_scores or HOOKS[name].needs_rollout]
