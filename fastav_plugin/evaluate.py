"""Accuracy against tokens: held-out questions about real files under several settings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5OmniProcessor

from fastav_plugin.attach import detach
from fastav_plugin.cache import FastAVCache
from fastav_plugin.comparison import DENSE
from fastav_plugin.config import CONFIG_NAME, FastAVConfig
from fastav_plugin.decoding import REMEDY
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.evaluation_file import Answer, EvaluationFile, Record
from fastav_plugin.testbed.model import prepare_inputs
from fastav_plugin.testbed.tasks import TASKS, Item, held_out_items

SUITES = ("testbed",)
#: Held-out sets: clip seeds never trained on; and combinations of shape, colour and sound.
CLIPS, COMBINATIONS = "clips", "combinations"
QUESTIONS = 1002


@dataclass(frozen=True)
class Question:
    """An item and the held-out set it comes from."""

    held_out: str
    item: Item


def questions_of(
    held_out: Sequence[str], count: int = QUESTIONS, limit: int | None = None
) -> list[Question]:
    """Draw the questions, the same ones each time, as many of every task.

    Args:
        held_out: `CLIPS`, `COMBINATIONS` or both.
        count: of each set, rounded up to a multiple of the number of tasks. Fewer questions are
            always among more.
        limit: only the first so many of each set.
    """
    per_task = -(-count // len(TASKS))
    return [
        Question(name, item)
        for name in held_out
        for item in held_out_items(per_task, combinations=name == COMBINATIONS)[:limit]
    ]


def saved_overrides(directory: Path) -> dict[str, Any]:
    """The settings in a checkpoint's `fastav_config.json` but the method; {} without the file."""
    if not (directory / CONFIG_NAME).exists():
        return {}
    values = FastAVConfig.from_pretrained(directory).to_dict()
    return {name: value for name, value in values.items() if name != "method"}


def answer_questions(
    model: Any,
    processor: Any,
    questions: Sequence[Question],
    configs: Mapping[str, FastAVConfig],
    file: EvaluationFile,
    tick: Callable[[str], None] = lambda name: None,
) -> list[Record]:
    """Answer questions, dense and under each setting, each clip through a real file.

    A clip is written and read once for all its questions, a question prepared once for all
    settings. Every answer comes from generate() of an unmodified model.

    Args:
        model: the model, in evaluation mode.
        processor: its processor.
        questions: those about one clip next to each other.
        configs: by name; dense is always there.
        file: what is answered already, and where answers go.
        tick: called after each question, answered now or before, with its task.

    Returns:
        One record per question, in order.

    Raises:
        UnsupportedError: PyAV is not installed, or not the processor of a Qwen2.5-Omni.
        ConfigError: the file holds another question in the place of one of these.
    """
    if not isinstance(processor, Qwen2_5OmniProcessor):
        raise UnsupportedError(
            "The testbed's prompts are made for a Qwen2_5OmniProcessor, got "
            f"{type(processor).__name__}. Give a Qwen2.5-Omni checkpoint."
        )
    records = []
    for same_clip in _by_clip(questions):
        media: tuple[Any, Any] | None = None
        for question in same_clip:
            asked = question.item.question
            record = file.records.get((question.held_out, question.item.seed, asked.task))
            if record is None:
                media = _through_a_file(question.item) if media is None else media
                inputs = prepare_inputs(processor, *media, asked.text).to(model.device)
                answers = answer_one(model, processor, inputs, configs)
                record = Record(
                    question.held_out,
                    question.item.seed,
                    asked.task,
                    asked.text,
                    asked.answer,
                    answers,
                )
                file.append(record)
            elif (record.question, record.right) != (asked.text, asked.answer):
                raise ConfigError(
                    f"The file of answers holds {record.question!r} for clip {record.seed}, where "
                    f"this version asks {asked.text!r}. Give another file."
                )
            records.append(record)
            tick(asked.task)
    return records


def answer_one(
    model: Any, processor: Any, inputs: Mapping[str, Any], configs: Mapping[str, FastAVConfig]
) -> dict[str, Answer]:
    """Answer one prompt with one token, dense and under each setting.

    Args:
        model: the model, in evaluation mode.
        processor: a Qwen2_5OmniProcessor.
        inputs: of generate(), batch size 1.
        configs: by name.
    """
    dense_logits, cache, seconds = _generate(model, inputs, None)
    layers = len(cache.layers)
    ids = inputs["input_ids"]
    visual = int((ids == processor.video_token_id).sum() + (ids == processor.image_token_id).sum())
    audio = int((ids == processor.audio_token_id).sum())
    answers = {
        DENSE: Answer(
            word=_word(processor, dense_logits),
            kl=0.0,
            tokens=[ids.shape[1]] * layers,
            visual=[visual] * layers,
            audio=[audio] * layers,
            flops_ratio=1.0,
            kv_bytes=sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers),
            seconds=seconds,
        )
    }
    for name, config in configs.items():
        logits, cache, seconds = _generate(model, inputs, config)
        report = cache.report()
        counts = report.modality_per_layer
        none = [0] * layers
        pairs = zip(counts.get("image", none), counts.get("video", none), strict=True)
        answers[name] = Answer(
            word=_word(processor, logits),
            kl=divergence(dense_logits, logits),
            tokens=report.tokens_per_layer,
            visual=[image + video for image, video in pairs],
            audio=counts.get("audio", none),
            flops_ratio=report.flops_ratio,
            kv_bytes=report.kv_bytes,
            seconds=seconds,
            reason=report.reason,
        )
    return answers


def divergence(dense: Tensor, pruned: Tensor) -> float:
    """KL(dense || pruned) in nats of two distributions given as logits [vocabulary]."""
    p, q = (torch.log_softmax(logits.double(), dim=-1) for logits in (dense, pruned))
    return max(0.0, float((p.exp() * (p - q)).sum()))


def _by_clip(questions: Sequence[Question]) -> Iterator[list[Question]]:
    for _, group in groupby(questions, key=lambda q: (q.item.seed, q.item.difficulty)):
        yield list(group)


def _through_a_file(item: Item) -> tuple[Any, Any]:
    """Frames and samples of a clip as they come out of an mp4 file."""
    try:
        from fastav_plugin.testbed.media import read_clip, write_clip

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            write_clip(path, item.clip())
            return read_clip(path)
    except ImportError as error:
        raise UnsupportedError(f"The evaluation writes and reads mp4 files. {REMEDY}") from error


def _generate(
    model: Any, inputs: Mapping[str, Any], config: FastAVConfig | None
) -> tuple[Tensor, Any, float]:
    """Logits [vocabulary] of the first token, the cache, and the time it took."""
    detach(model)
    extra = {} if config is None else {"past_key_values": FastAVCache(config)}
    start = _now(model)
    output = model.generate(
        **inputs,
        **extra,
        max_new_tokens=1,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    seconds = _now(model) - start
    detach(model)
    return output.logits[0][0], output.past_key_values, seconds


def _word(processor: Any, logits: Tensor) -> str:
    return str(processor.tokenizer.decode(logits.argmax())).strip().lower()


def _now(model: Any) -> float:
    """A clock that waits for the device."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
