"""One question under one setting: whether it is right, how far it is from dense, what it cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.analysis.measured_run import Run, run_once
from fastav_plugin.attach import detach
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.evaluation.answers import COMPARED, divergence
from fastav_plugin.lab.arenas.arena import Question
from fastav_plugin.lab.arenas.prefix import Prefixes, Started, whole_cost
from fastav_plugin.report import PruningReport
from fastav_plugin.upstream.arguments import cache_argument


@dataclass(frozen=True)
class Outcome:
    """What one setting made of one question.

    Attributes:
        right: whether the answer is right.
        agree: whether its first `COMPARED` tokens are those of dense.
        kl: mean KL(dense || pruned) over these tokens, all fed those of dense, in nats.
        tokens: prompt tokens that each layer saw.
        flops_ratio: of the report.
        text: the answer.
        second: whether the follow-up is right; None where none was asked.
        reason: why nothing was cut, or None.
    """

    right: bool
    agree: bool
    kl: float
    tokens: list[int]
    flops_ratio: float
    text: str
    second: bool | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Dense:
    """The unpruned answer that settings are compared with.

    Attributes:
        outcome: its own.
        ids: int64 [N], the answer's tokens.
        logits: float32 [n, vocabulary], before each of the first `COMPARED` of them.
    """

    outcome: Outcome
    ids: Tensor
    logits: Tensor


def answer_dense(
    model: Any,
    tokenizer: Any,
    question: Question,
    second: bool = False,
    prefixes: Prefixes | None = None,
) -> Dense:
    """Answer a question without pruning; `second` asks its follow-up as well."""
    detach(model)
    started = prefixes.start(question, None) if prefixes else None
    run = run_once(
        model,
        _inputs(question, started),
        cache=started.cache if started else None,
        max_new_tokens=question.max_new_tokens,
    )
    ids = run.new_ids[0]
    text = _text(tokenizer, ids)
    prompt = question.inputs["input_ids"].shape[1]
    layers = len(run.cache.layers)
    followed = _ask_second(model, tokenizer, question, run, ids) if second else None
    outcome = Outcome(question.right(text), True, 0.0, [prompt] * layers, 1.0, text, followed)
    return Dense(outcome, ids, torch.cat(run.logits[:COMPARED]).float())


def answer_pruned(
    model: Any,
    tokenizer: Any,
    question: Question,
    config: FastAVConfig,
    dense: Dense,
    second: bool = False,
    prefixes: Prefixes | None = None,
) -> tuple[Outcome, PruningReport]:
    """Answer a question under a setting, and compare it with dense token by token.

    The prompt is prefilled once: the answer of its own, dense's answer and the follow-up are
    continued from the same cache.

    Args:
        model: without anything attached, which it is again afterwards.
        tokenizer: decodes the answer.
        question: what is asked.
        config: what is pruned.
        dense: of the same question.
        second: whether the follow-up is asked, after dense's answer to the first question.
        prefixes: beginnings of prompts that can be reused; None for none.

    Returns:
        What became of it, and the report of the prompt, or of its beginning where that was there.
    """
    started = prefixes.start(question, config) if prefixes else None
    cache = started.cache if started else FastAVCache(config, tokens=question.tokens)
    try:
        run = run_once(
            model, _inputs(question, started), cache=cache, max_new_tokens=question.max_new_tokens
        )
        report = (started and started.report) or cache.report()
        logits = _forced_logits(model, question, run, dense.ids[:COMPARED])
        followed = _ask_second(model, tokenizer, question, run, dense.ids) if second else None
    finally:
        detach(model)
    tokens, flops = report.tokens_per_layer, report.flops_ratio
    if started:
        tokens, flops = whole_cost(model, question, config, report)
    text = _text(tokenizer, run.new_ids[0])
    same = bool((logits.argmax(dim=1) == dense.ids[: len(logits)]).all())
    kl = divergence(dense.logits, logits) / len(logits)
    outcome = Outcome(
        question.right(text),
        same,
        kl,
        tokens,
        flops,
        text,
        followed,
        report.reason,
    )
    return outcome, report


def _inputs(question: Question, started: Started | None) -> Mapping[str, Any]:
    """Arguments of generate(); media that are in the cache are not given again."""
    if started is None:
        return question.inputs
    return {name: question.inputs[name] for name in ("input_ids", "attention_mask")}


def _text(tokenizer: Any, ids: Tensor) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _forced_logits(model: Any, question: Question, run: Run, ids: Tensor) -> Tensor:
    """float32 [N, vocabulary], logits before each of N tokens of another answer.

    As long as a run's own answer is the same, its logits are these. From there on the cache is
    taken back to that token, and the rest goes through the model at once.
    """
    own = run.new_ids[0][: len(ids)]
    alike = int((own == ids[: len(own)]).long().cumprod(dim=0).sum())
    shared = torch.cat(run.logits[: alike + 1]).float()[: len(ids)]
    if len(shared) == len(ids):
        return shared
    _take_back(run.cache, question, alike)
    rest = ids[alike : len(ids) - 1][None]
    seen = run.cache.get_seq_length() + rest.shape[1]
    with torch.no_grad():
        output = model(
            input_ids=rest,
            attention_mask=torch.ones(1, seen, dtype=torch.int64, device=rest.device),
            **cache_argument(run.cache),
            use_cache=True,
        )
    return torch.cat([shared, output.logits[0].float()])


def _take_back(cache: Any, question: Question, answered: int) -> None:
    """Leave only so many tokens of an answer in a cache."""
    surplus = cache.get_seq_length() - question.inputs["input_ids"].shape[1] - answered
    if surplus:
        cache.crop(-surplus)


def _ask_second(
    model: Any, tokenizer: Any, question: Question, run: Run, answer: Tensor
) -> bool | None:
    """Whether a question on the same media is answered right after the first one's answer."""
    follow_up = question.follow_up
    if follow_up is None:
        return None
    _take_back(run.cache, question, 0)
    # The follow-up begins with the end of the turn.
    ends = model.generation_config.eos_token_id
    stops = ends if isinstance(ends, list) else [ends]
    if len(answer) and int(answer[-1]) in stops:
        answer = answer[:-1]
    later = torch.cat([answer[None], follow_up.input_ids.to(answer.device)], dim=1)
    ids = torch.cat([question.inputs["input_ids"], later], dim=1)
    if isinstance(run.cache, FastAVCache) and question.tokens is not None:
        run.cache.tokens = question.tokens.extend(later.shape[1])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    turn = run_once(model, inputs, cache=run.cache, max_new_tokens=follow_up.max_new_tokens)
    return follow_up.right(_text(tokenizer, turn.new_ids[0]))
