"""Measure the model: `python -m fastav_plugin.lab.testbed.evaluate`.

Every clip is written as an mp4 file, read back and put through the processor; the answer is the
most likely first word out of the whole vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track
from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from fastav_plugin.lab.testbed.media import through_a_file
from fastav_plugin.lab.testbed.model import MODEL_PATH, prepare_inputs
from fastav_plugin.lab.testbed.tasks import CHANCE, TASKS, Item, held_out_items


def answer_items(
    model: Qwen2_5OmniThinkerForConditionalGeneration,
    processor: Qwen2_5OmniProcessor,
    items: list[Item],
) -> Iterator[tuple[Item, str]]:
    """Answer questions in their order, each clip through a real file.

    Args:
        model: the thinker, on any device.
        processor: its processor.
        items: questions; those about one clip next to each other.

    Yields:
        Each item and the model's answer to it.
    """
    for _, same_clip in groupby(items, key=lambda item: (item.seed, item.difficulty)):
        questions = list(same_clip)
        media = through_a_file(questions[0].clip())
        for item in questions:
            inputs = prepare_inputs(processor, *media, item.question.text)
            with torch.no_grad():
                logits = model(**inputs.to(model.device), use_cache=False).logits
            yield item, str(processor.tokenizer.decode(logits[0, -1].argmax()))


def evaluate(
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = MODEL_PATH,
    per_task: Annotated[int, typer.Option(help="Questions of each task.")] = 167,
    combinations: Annotated[bool, typer.Option(help="Held-out combinations.")] = False,
) -> None:
    """Print the share of right answers per task as one line of JSON."""
    thinker = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    processor = Qwen2_5OmniProcessor.from_pretrained(model)
    items = held_out_items(per_task, combinations=combinations)
    answers = track(answer_items(thinker, processor, items), total=len(items))
    right = dict.fromkeys(TASKS, 0)
    for item, answer in answers:
        right[item.question.task] += answer == item.question.answer
    report = {
        task: {"right": right[task], "of": per_task, "chance": round(CHANCE[task], 3)}
        for task in TASKS
    }
    total = round(sum(right.values()) / len(items), 4)
    typer.echo(json.dumps({"combinations": combinations, "accuracy": total, "tasks": report}))


if __name__ == "__main__":
    typer.run(evaluate)
