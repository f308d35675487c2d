"""Passages prefilled once for all their questions, under settings that do not look at a question.

A causal model computes the same for the beginning of a prompt, whatever follows. So do settings
whose cuts follow from media alone: from their embeddings or positions. For these the beginning
that the questions about a passage share is prefilled once, and each question goes on from a copy;
logits differ by less than 1e-4 from those of one prompt (tested). Whatever ranks by attention, by
the question's embeddings or by a draw per prompt is prefilled anew for each question.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from fastav_plugin.analysis import DENSE
from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.attach import attach, detach
from fastav_plugin.binding.wrappers import unwrap
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.hooks.registry import method_hooks
from fastav_plugin.lab.arenas.arena import Question
from fastav_plugin.model_overrides import find_override
from fastav_plugin.planning.dry_run import plan_prefill
from fastav_plugin.report import PruningReport

#: Hooks that look at media alone.
BLIND = frozenset(
    (
        *("div_prune", "div_prune_by_frame", "seats_entrance", "omnipack_entrance", "scope"),
        *("uniform", "global_pruning", "vtw", "late_removal"),
    )
)
#: Caches held at a time; one of a passage of 1,700 tokens is 80 MB.
MOST = 20


@dataclass(frozen=True)
class Started:
    """A prompt whose beginning is in a cache.

    Attributes:
        cache: of its own; the rest of the prompt goes on in it.
        report: of the beginning; None without pruning.
    """

    cache: Any
    report: PruningReport | None


class Prefixes:
    """The beginnings of the prompts about one passage at a time.

    Args:
        model: in evaluation mode, with nothing attached.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._ids: Tensor | None = None
        self._held: dict[str, Started] = {}

    def start(self, question: Question, config: FastAVConfig | None) -> Started | None:
        """The beginning of a question's prompt; None where it must be prefilled with the rest.

        Args:
            question: those about one passage one after the other.
            config: what is pruned; None for dense. The model is attached to it.
        """
        if not question.shared or question.tokens is None or not is_blind(config):
            return None
        ids = question.inputs["input_ids"][:, : question.shared]
        if self._ids is None or not torch.equal(ids, self._ids):
            self._ids, self._held = ids, {}
        key = DENSE if config is None else repr(method_hooks(config))
        if key not in self._held:
            if len(self._held) == MOST:
                return None
            self._held[key] = self._prefill(question, ids, config)
        held = self._held[key]
        if config is None:
            return Started(copy.deepcopy(held.cache), None)
        attach(self._model, config)
        cache = copy.deepcopy(held.cache)
        cache.tokens = question.tokens
        return Started(cache, held.report)

    def _prefill(self, question: Question, ids: Tensor, config: FastAVConfig | None) -> Started:
        inputs = {**question.inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if config is None:
            return Started(run_once(self._model, inputs, cache=DynamicCache()).cache, None)
        assert question.tokens is not None
        cache = FastAVCache(config, tokens=question.tokens.first(question.shared))
        try:
            run_once(self._model, inputs, cache=cache)
            return Started(cache, cache.report())
        finally:
            detach(self._model)


def is_blind(config: FastAVConfig | None) -> bool:
    """Whether what is kept follows from the media of a prompt alone."""
    return config is None or all(hook.name in BLIND for hook in method_hooks(config))


def whole_cost(
    model: Any, question: Question, config: FastAVConfig, report: PruningReport
) -> tuple[list[int], float]:
    """Tokens that each layer saw of a whole prompt, and its FLOPs as a share of dense.

    Args:
        model: the question's.
        question: with a TokenMap.
        config: one for which `is_blind` holds, so that its FLOPs can be planned.
        report: of the beginning of the prompt.
    """
    assert question.tokens is not None
    head: Any = unwrap(model)
    cost = find_override(head).cost(head.config)
    rest = question.tokens.length - question.shared
    tokens = [count + rest for count in report.tokens_per_layer]
    plan = plan_prefill(config, question.tokens, len(tokens), cost)
    return tokens, plan.flops_ratio(cost, [question.tokens.length])
