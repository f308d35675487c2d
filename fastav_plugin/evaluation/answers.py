"""Accuracy against tokens: questions about real files under several settings."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.analysis import DENSE
from fastav_plugin.analysis.measured_run import Run, run_once
from fastav_plugin.attach import detach
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.evaluation.answers_file import AnswerLog
from fastav_plugin.evaluation.matching import judge
from fastav_plugin.evaluation.records import Answer, Question, QuestionSource, Record
from fastav_plugin.evaluation.sample import move_inputs
from fastav_plugin.report import PruningReport

#: Tokens of the dense answer over which KL and agreement are measured.
COMPARED = 8


def answer_questions(
    model: Any,
    processor: Any,
    source: QuestionSource,
    configs: Mapping[str, FastAVConfig] | Callable[[Question], Mapping[str, FastAVConfig]],
    file: AnswerLog,
    tick: Callable[[str], None] = lambda name: None,
    leave_out: Callable[[Question, str], None] | None = None,
) -> list[Record]:
    """Answer questions, dense and under each setting, with generate() of an unmodified model.

    A question is prepared once for all settings.

    Args:
        model: in evaluation mode.
        processor: decodes the answers' tokens.
        source: questions and their inputs.
        configs: by name, or a function that gives them for a question; dense is always added.
        file: answers so far, and where new ones are written; ConfigError if it holds another
            question under the key of one of these.
        tick: called after each question, answered now or before, with its task.
        leave_out: called with a question whose media cannot be read, and the reason; None to raise.

    Returns:
        One record per question that could be asked, in order.
    """
    records = []
    for question in source.questions:
        record = file.records.get(question.key)
        if record is None:
            try:
                inputs = move_inputs(source.inputs(question), model)
            except ConfigError as error:
                if leave_out is None:
                    raise
                leave_out(question, str(error))
                tick(question.task)
                continue
            own = configs(question) if callable(configs) else configs
            answers = answer_one(model, processor, inputs, question, own, source.max_new_tokens)
            record = Record(question, answers)
            file.append(record)
        elif record.question != question:
            raise ConfigError(
                f"The file of answers holds {record.question.text!r} about {record.question.clip}, "
                f"where {question.text!r} is asked now. Give another file."
            )
        records.append(record)
        tick(question.task)
    return records


def answer_one(
    model: Any,
    processor: Any,
    inputs: Mapping[str, Any],
    question: Question,
    configs: Mapping[str, FastAVConfig],
    max_new_tokens: int,
) -> dict[str, Answer]:
    """Answer one prompt, dense and under each setting; `inputs` are on the model's device.

    KL and agreement are over the first `COMPARED` tokens of the dense answer, or all it has. A
    setting whose own answer differs among them is fed those of dense in a second run.
    """
    detach(model)
    candidates: dict[str, FastAVConfig | None] = {DENSE: None, **configs}
    dense: tuple[Tensor, Tensor] | None = None
    answers = {}
    for name, config in candidates.items():
        run = run_once(model, inputs, config, max_new_tokens=max_new_tokens)
        ids = run.new_ids[0]
        compared = ids[:COMPARED], torch.cat(run.logits[:COMPARED])
        dense = compared if dense is None else dense
        kl, same = _fidelity(model, inputs, config, dense, compared)
        text = str(processor.decode(ids, skip_special_tokens=True)).strip()
        read, score = judge(question.rule, text, question.right, question.choices)
        answers[name] = Answer(
            text=text,
            read=read,
            score=score,
            kl=kl,
            same_tokens=same,
            seconds=run.seconds,
            new_tokens=len(ids),
            **_cost(run, run.report(model, inputs)),
        )
    return answers


def _fidelity(
    model: Any,
    inputs: Mapping[str, Any],
    config: FastAVConfig | None,
    dense: tuple[Tensor, Tensor],
    own: tuple[Tensor, Tensor],
) -> tuple[float, bool]:
    """Mean KL over the dense tokens, in nats, and whether the setting gives the same ones.

    Args:
        model: as in `answer_one`.
        inputs: likewise.
        config: what is pruned; None for dense itself.
        dense: int64 [N], its first tokens, and the logits [N, vocabulary] before each.
        own: those of the setting.
    """
    ids, logits = dense
    if config is None:
        return 0.0, True
    same = torch.equal(ids, own[0])
    if same:
        forced = own[1]
    elif len(ids) == 1:
        forced = own[1][:1]
    else:
        forced = torch.cat(run_once(model, inputs, config, forced=ids).logits)
    return divergence(logits, forced) / len(ids), same


def divergence(dense: Tensor, pruned: Tensor) -> float:
    """KL(dense || pruned) in nats of distributions given as logits [..., vocabulary], summed.

    Raises:
        UnsupportedError: logits that are no distribution, as after a float16 overflow, or a
            pruned distribution that excludes what dense allows.
    """
    p, q = (torch.log_softmax(logits.double(), dim=-1) for logits in (dense, pruned))
    # A token that dense never says adds nothing, also where its logit is -inf in both.
    found = float(torch.where(p == float("-inf"), 0.0, p.exp() * (p - q)).sum())
    if not math.isfinite(found):
        raise UnsupportedError(
            f"The dense and the pruned logits have no finite KL (it is {found}): the "
            "model's numbers overflow. Load it in `bfloat16` or `float32`."
        )
    return max(0.0, found)


def _cost(run: Run, report: PruningReport) -> dict[str, Any]:
    """Tokens by layer and kind, theoretical cost, and the bytes the prompt left in the cache."""
    tokens, by_kind = report.tokens_per_layer, report.modality_per_layer
    none = [0] * len(tokens)
    pairs = zip(by_kind.get("image", none), by_kind.get("video", none), strict=True)
    return {
        "tokens": tokens,
        "visual": [image + video for image, video in pairs],
        "audio": by_kind.get("audio", none),
        "flops_ratio": report.flops_ratio,
        "kv_bytes": sum(map(_prompt_bytes, run.cache.layers, tokens)),
        "reason": report.reason,
    }


def _prompt_bytes(layer: Any, tokens: int) -> int:
    """Bytes of a layer without the tokens that the answer added."""
    held = int(layer.keys.shape[-2])
    return int(layer.keys.nbytes + layer.values.nbytes) * min(held, tokens) // held
