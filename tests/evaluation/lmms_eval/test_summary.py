"""Means over prompts, in words and in figures."""

from __future__ import annotations

import pytest

from fastav_plugin.evaluation.lmms_eval.pruned_generate import PromptCost
from fastav_plugin.evaluation.lmms_eval.summary import figures, sentence, unpruned

CUT = PromptCost(tokens=100, kept=40, flops_ratio=0.5, reason=None)
WHOLE = PromptCost(tokens=20, kept=20, flops_ratio=1.0, reason="it holds no media")


def test_figures_are_means() -> None:
    assert figures([CUT, CUT, WHOLE, WHOLE]) == {
        "fastav_flops_ratio": 0.75,
        "fastav_prompt_tokens": 60,
        "fastav_kept_tokens": 30,
        "fastav_unpruned_prompts": 0.5,
    }


def test_a_sentence_says_them() -> None:
    assert sentence([CUT, WHOLE]) == (
        "2 prompts, mean tokens 60.0 -> 30.0 in the last layer, FLOPs 75.0 % of dense."
    )


@pytest.mark.parametrize("costs", [[], [CUT]])
def test_nothing_is_said_where_all_were_cut(costs: list[PromptCost]) -> None:
    assert unpruned(costs) == ""


def test_what_was_not_cut_is_counted_by_its_reason() -> None:
    few = PromptCost(tokens=30, kept=30, flops_ratio=1.0, reason="10 media tokens are few")
    assert unpruned([CUT, WHOLE, few, WHOLE]) == (
        "3 of 4 prompts unpruned: 2 because it holds no media; 1 because 10 media tokens are few."
    )


def test_without_prompts_there_are_no_figures() -> None:
    assert figures([]) == {}
    assert sentence([]) == "no prompts."
