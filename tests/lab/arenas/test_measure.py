"""A question under a setting: each figure is checked against another way to it."""

from __future__ import annotations

import pytest
import torch

from fastav_plugin import FastAVCache, FastAVConfig
from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.attach import detach
from fastav_plugin.evaluation.answers import COMPARED
from fastav_plugin.lab.arenas.measure import answer_dense, answer_pruned
from tests.support.tiny_arena import MEDIA, TinyArena

FINE = FastAVConfig(hooks=[{"name": "fine_pruning", "drop_ratio": 0.5, "after_layer": 1}])
HALF = FastAVConfig(method="divprune", visual_keep_ratio=0.3)
NOTHING = FastAVConfig(hooks=[{"name": "vtw", "layer": 3}])


@pytest.fixture(scope="module")
def arena() -> TinyArena:
    return TinyArena.make()


@pytest.mark.parametrize("config", [FINE, HALF], ids=["fine", "half"])
@pytest.mark.parametrize("number", range(4))
def test_logits_after_a_difference_are_those_of_a_forced_run(
    arena: TinyArena, config: FastAVConfig, number: int
) -> None:
    question = arena.questions(4, 0)[number]
    dense = answer_dense(arena.model, arena.tokenizer, question)
    outcome, report = answer_pruned(arena.model, arena.tokenizer, question, config, dense)
    cache = FastAVCache(config, tokens=question.tokens)
    forced = run_once(arena.model, question.inputs, cache=cache, forced=dense.ids[:COMPARED])
    detach(arena.model)
    p = dense.logits.double().log_softmax(-1)
    q = torch.cat(list(forced.logits)).double().log_softmax(-1)
    assert outcome.kl == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), abs=1e-6)
    assert outcome.agree == bool((q.argmax(-1) == dense.ids[:COMPARED]).all())
    assert outcome.tokens == report.tokens_per_layer == cache.report().tokens_per_layer
    assert 0 < outcome.flops_ratio == report.flops_ratio < 1


def test_some_answers_differ_and_so_are_continued(arena: TinyArena) -> None:
    """Else the test above compares nothing."""
    found = []
    for question in arena.questions(4, 0):
        dense = answer_dense(arena.model, arena.tokenizer, question)
        found.append(answer_pruned(arena.model, arena.tokenizer, question, HALF, dense)[0].agree)
    assert not all(found)


def test_a_second_question_goes_on_from_the_pruned_prompt(arena: TinyArena) -> None:
    """Masked dense: what a layer does not hold, no query of the second turn sees."""
    question = arena.questions(1, 3)[0]
    dense = answer_dense(arena.model, arena.tokenizer, question, second=True)
    assert dense.outcome.second is not None
    follow_up = question.follow_up
    assert follow_up is not None
    whole = torch.cat([question.inputs["input_ids"], dense.ids[None], follow_up.input_ids], dim=1)
    new = follow_up.max_new_tokens
    expected = arena.model.generate(whole, max_new_tokens=new)[0, whole.shape[1] :]
    right = arena.tokenizer.decode(expected)
    again = question.__class__(
        **{
            **vars(question),
            "follow_up": follow_up.__class__(follow_up.input_ids, (right,), max_new_tokens=new),
        }
    )
    unpruned = FastAVConfig(hooks=[{"name": "div_prune", "visual_keep_ratio": 1.0}])
    for config, same in ((unpruned, True), (HALF, False)):
        found, _ = answer_pruned(arena.model, arena.tokenizer, again, config, dense, second=True)
        assert found.second is same
    assert answer_dense(arena.model, arena.tokenizer, again, second=True).outcome.second


def test_the_model_is_left_as_it_was(arena: TinyArena) -> None:
    question = arena.questions(1, 0)[0]
    before = arena.model(question.inputs["input_ids"]).logits
    dense = answer_dense(arena.model, arena.tokenizer, question)
    answer_pruned(arena.model, arena.tokenizer, question, NOTHING, dense, second=True)
    assert torch.equal(before, arena.model(question.inputs["input_ids"]).logits)


def test_dense_is_its_own_reference(arena: TinyArena) -> None:
    question = arena.questions(1, 0)[0]
    found = answer_dense(arena.model, arena.tokenizer, question).outcome
    assert found.right and found.agree
    assert (found.kl, found.flops_ratio, found.second) == (0, 1, None)
    assert MEDIA[1] - MEDIA[0] < found.tokens[0] == question.inputs["input_ids"].shape[1]
