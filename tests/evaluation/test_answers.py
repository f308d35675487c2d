"""The evaluation itself, with random weights: every number is checked against another source."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from fastav_plugin import ConfigError, FastAVCache, FastAVConfig, UnsupportedError
from fastav_plugin.evaluation.answers import COMPARED, answer_one, answer_questions, divergence
from fastav_plugin.evaluation.answers_file import AnswerLog
from fastav_plugin.evaluation.records import QuestionSource, Record
from fastav_plugin.evaluation.summary import summarise
from fastav_plugin.installation import install_hint
from fastav_plugin.lab.testbed.evaluate import answer_items
from fastav_plugin.lab.testbed.evaluation_source import items_of, make_source
from fastav_plugin.lab.testbed.media import write_clip
from fastav_plugin.lab.testbed.model import MODEL_PATH, build_model, build_processor, prepare_inputs
from fastav_plugin.lab.testbed.tasks import CLIPS, COMBINATIONS, TASKS
from fastav_plugin.media.clips import read_clip
from tests.support.cache_names import passing

RULE = {"video": "first 64 tokens", "audio": "first 50 tokens"}


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model()


@pytest.fixture(scope="module")
def processor() -> Any:
    return build_processor()


@pytest.fixture(scope="module")
def configs(model: Any) -> dict[str, FastAVConfig]:
    return {
        "nothing": FastAVConfig.for_model(model, method="none"),
        "all": FastAVConfig.for_model(model, global_rule="all", fine_drop_ratio=0.0),
        "half": FastAVConfig.for_model(model, method="divprune", audio_keep_ratio=0.5),
        "cut": FastAVConfig.for_model(model, global_rule=RULE, fine_drop_ratio=0.0),
    }


@pytest.fixture(scope="module")
def source(processor: Any) -> QuestionSource:
    return make_source(processor, items_of([CLIPS], 6, 4))


@pytest.fixture(scope="module")
def records(
    model: Any, processor: Any, configs: dict[str, FastAVConfig], source: QuestionSource
) -> list[Record]:
    return answer_questions(model, processor, source, configs, AnswerLog(None, {}))


def timeless(records: list[Record]) -> list[dict[str, Any]]:
    found = [dataclasses.asdict(record) for record in records]
    for record in found:
        for answer in record["answers"].values():
            assert answer.pop("seconds") > 0
    return found


def test_questions_are_balanced_and_fewer_are_among_more() -> None:
    many, few = (set(items_of([CLIPS], count)) for count in (1002, 300))
    assert len(many) == 1002
    assert few < many
    assert Counter(item.question.task for _, item in few) == dict.fromkeys(TASKS, 50)
    assert len(items_of([CLIPS], 1)) == len(TASKS)


def test_the_sets_are_disjoint() -> None:
    found = items_of([CLIPS, COMBINATIONS], 60, 20)
    assert [part for part, _ in found] == [CLIPS] * 20 + [COMBINATIONS] * 20
    assert all(item.difficulty.held_out == (part == COMBINATIONS) for part, item in found)


def test_dense_answers_are_those_of_a_direct_call(
    model: Any, processor: Any, source: QuestionSource, records: list[Record]
) -> None:
    direct = answer_items(model, processor, [item for _, item in items_of([CLIPS], 6, 4)])
    special = set(processor.tokenizer.all_special_tokens)
    expected = ["" if word in special else word for _, word in direct]
    assert [record.answers["dense"].text for record in records] == expected


def test_what_cuts_nothing_equals_dense(records: list[Record]) -> None:
    for record in records:
        dense = record.answers["dense"]
        for name in ("nothing", "all"):
            answer = record.answers[name]
            same = (
                "text",
                "read",
                "score",
                "kl",
                "tokens",
                "visual",
                "audio",
                "flops_ratio",
                "kv_bytes",
            )
            assert [getattr(answer, n) for n in same] == [getattr(dense, n) for n in same]


def test_counts_follow_from_the_settings(records: list[Record]) -> None:
    for record in records:
        dense, half, cut = (record.answers[name] for name in ("dense", "half", "cut"))
        assert (dense.visual, dense.audio) == ([128] * 8, [200] * 8)
        assert (half.visual, half.audio) == ([64] * 8, [100] * 8)
        assert (cut.visual, cut.audio) == ([128] * 4 + [64] * 4, [200] * 4 + [50] * 4)
        lost = [a - b for a, b in zip(dense.tokens, cut.tokens, strict=True)]
        assert lost == [0] * 4 + [214] * 4
        assert dense.flops_ratio == 1 > cut.flops_ratio > half.flops_ratio > 0
        assert half.kv_bytes == dense.kv_bytes * half.tokens[0] // dense.tokens[0]
        assert half.kl > 0
        assert cut.reason is None


def test_the_divergence_is_that_of_the_public_path(
    model: Any,
    processor: Any,
    configs: dict[str, FastAVConfig],
    records: list[Record],
    tmp_path: Path,
) -> None:
    [(_, item)] = items_of([CLIPS], 6, 1)
    write_clip(tmp_path / "clip.mp4", item.clip())
    frames, waveform = read_clip(tmp_path / "clip.mp4")
    inputs = prepare_inputs(processor, frames, waveform, item.question.text)
    shared = {"max_new_tokens": 1, "output_logits": True, "return_dict_in_generate": True}
    dense = model.generate(**inputs, **shared).logits[0][0].softmax(-1)
    cache = FastAVCache(configs["half"])
    pruned = model.generate(**inputs, **shared, **passing(cache)).logits[0][0].softmax(-1)
    expected = float((dense * (dense / pruned).log()).sum())
    assert records[0].answers["half"].kl == pytest.approx(expected, rel=1e-3)


def test_longer_answers_are_compared_over_eight_tokens_fed_alike(
    processor: Any, configs: dict[str, FastAVConfig], source: QuestionSource
) -> None:
    model = build_model()
    with torch.no_grad():
        # Weights large enough that every token matters.
        for parameter in model.model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
    question = source.questions[0]
    inputs = dict(source.inputs(question))
    own = {name: configs[name] for name in ("all", "half", "cut")}
    answers = answer_one(model, processor, inputs, question, own, COMPARED + 2)
    given = {"max_new_tokens": COMPARED + 2, "return_dict_in_generate": True}
    start = inputs["input_ids"].shape[1]
    output = model.generate(**inputs, **given, output_logits=True)
    ids = output.sequences[0, start:][:COMPARED]
    assert len(ids) == COMPARED
    p = torch.cat(output.logits[:COMPARED]).double().log_softmax(-1)
    for name in ("half", "cut"):
        cache = FastAVCache(configs[name])
        with torch.no_grad():
            # The whole prompt, then one token of dense at a time.
            logits = [model(**inputs, **passing(cache), use_cache=True).logits[0, -1]]
            for count, token in enumerate(ids[:-1], start=1):
                mask = torch.ones(1, start + count, dtype=torch.int64)
                step = {"input_ids": token[None, None], "attention_mask": mask}
                logits.append(model(**step, **passing(cache), use_cache=True).logits[0, -1])
        q = torch.stack(logits).double().log_softmax(-1)
        expected = float((p.exp() * (p - q)).sum(-1).mean())
        assert answers[name].kl == pytest.approx(expected, rel=1e-3, abs=1e-6)
        free = model.generate(**inputs, **given, **passing(FastAVCache(configs[name])))
        same = torch.equal(free.sequences[0, start:][:COMPARED], ids)
        assert answers[name].same_tokens is same
    assert not all(answers[name].same_tokens for name in ("half", "cut"))
    assert answers["all"].same_tokens
    assert answers["all"].kl == 0


def test_a_stopped_run_goes_on_and_counts_nothing_twice(
    model: Any,
    processor: Any,
    configs: dict[str, FastAVConfig],
    source: QuestionSource,
    records: list[Record],
    tmp_path: Path,
) -> None:
    path, ticks = tmp_path / "a.jsonl", list[str]()

    def stop(task: str) -> None:
        ticks.append(task)
        if len(ticks) == 2:
            raise KeyboardInterrupt

    header = {"suite": "testbed"}
    with AnswerLog(path, header) as file, pytest.raises(KeyboardInterrupt):
        answer_questions(model, processor, source, configs, file, stop)
    ticks.clear()
    with AnswerLog(path, header) as file:
        assert len(file.records) == 2
        found = answer_questions(model, processor, source, configs, file, ticks.append)
    assert len(ticks) == len(source.questions)
    assert len(path.read_text().splitlines()) == 1 + len(source.questions)
    assert timeless(found) == timeless(records)


def test_another_question_in_the_place_of_one_is_refused(
    model: Any, processor: Any, source: QuestionSource, records: list[Record]
) -> None:
    file = AnswerLog(None, {})
    asked = dataclasses.replace(records[0].question, text="Is the moon visible?")
    file.append(Record(asked, records[0].answers))
    with pytest.raises(ConfigError, match="moon"):
        answer_questions(model, processor, source, {}, file)


def test_other_processors_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="Qwen2_5OmniProcessor, got str"):
        make_source("text", [])


def test_a_missing_extra_is_named(
    model: Any, processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(processor, items_of([CLIPS], 6, 1))
    monkeypatch.delitem(sys.modules, "fastav_plugin.lab.testbed.media", raising=False)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedError, match=re.escape(install_hint("media"))):
        answer_questions(model, processor, source, {}, AnswerLog(None, {}))


def test_the_model_is_left_as_it_was(model: Any, records: list[Record]) -> None:
    assert records
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_summary(records: list[Record]) -> None:
    rows = {row["setting"]: row for row in summarise(records, seed=1)}
    assert list(rows) == ["dense", "nothing", "all", "half", "cut"]
    for name, row in rows.items():
        words = [record.answers[name].text == record.question.right[0] for record in records]
        assert row["accuracy"]["mean"] == sum(words) / len(words)
        assert sum(task["questions"] for task in row["tasks"].values()) == len(records)
        dense = [record.answers["dense"].text == record.question.right[0] for record in records]
        change = (sum(words) - sum(dense)) / len(words)
        assert row["accuracy_change"]["mean"] == pytest.approx(change)
        assert len(row["tokens_per_layer"]) == 8
    for name in ("dense", "nothing", "all"):
        assert rows[name]["agreement"]["mean"] == 1
        assert rows[name]["kl"]["mean"] == 0
        assert rows[name]["kept"] == {"all": 1, "visual": 1, "audio": 1}
    assert rows["nothing"]["uncut"] == len(records)
    assert rows["half"]["kept"]["audio"] == 0.5
    assert rows["cut"]["kept"]["visual"] == 0.75
    assert rows["cut"]["kept"]["audio"] == (4 * 200 + 4 * 50) / (8 * 200)
    assert summarise(records, seed=1) == list(rows.values())


def test_divergence() -> None:
    p, q = torch.tensor([0.5, 0.25, 0.25]).log(), torch.tensor([0.25, 0.25, 0.5]).log()
    assert divergence(p, p + 3) == pytest.approx(0, abs=1e-12)
    assert divergence(p, q) == pytest.approx(0.5 * math.log(2) + 0.25 * math.log(0.5))


def test_divergence_of_tokens_that_a_model_never_says() -> None:
    p, q = torch.tensor([0.5, 0.5, 0]).log(), torch.tensor([0.25, 0.75, 0]).log()
    wanted = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert divergence(p, q) == pytest.approx(wanted)
    assert divergence(p, torch.tensor([0.25, 0.25, 0.5]).log()) == pytest.approx(math.log(2))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_distribution_are_never_near(wrong: float) -> None:
    whole, broken = torch.zeros(5), torch.zeros(5)
    broken[2] = wrong
    with pytest.raises(UnsupportedError, match="no finite KL .* `bfloat16` or `float32`"):
        divergence(whole, broken)
    if wrong != -math.inf:
        with pytest.raises(UnsupportedError, match="no finite KL"):
            divergence(broken, whole)


@pytest.mark.skipif(not (MODEL_PATH / "config.json").exists(), reason="no trained model here")
def test_the_settings_shipped_with_the_model_cut_something(processor: Any) -> None:
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    trained: Any = Qwen2_5OmniThinkerForConditionalGeneration
    model = trained.from_pretrained(MODEL_PATH, dtype=torch.float32)
    configs = {
        method: FastAVConfig.for_model(model, method=method)
        for method in ("fastav", "divprune", "fastav+divprune")
    }
    source = make_source(processor, items_of([CLIPS], 6, 1))
    [record] = answer_questions(model, processor, source, configs, AnswerLog(None, {}))
    for name in configs:
        assert record.answers[name].reason is None
        assert record.answers[name].flops_ratio < 0.9
