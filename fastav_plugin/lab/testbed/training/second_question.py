"""What pruning costs a second question about a clip.

Run it with `python -m fastav_plugin.lab.testbed.training.second_question`.

The first question's last token decides what FastAV's fine cut keeps, so a second question about the
same clip sees only what is left. It is asked in three ways: alone (its own prefill), as the next
turn of the conversation, and instead of the first question, which `crop` removes.
"""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import track
from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.attach import detach
from fastav_plugin.cache import FastAVCache
from fastav_plugin.config import FastAVConfig
from fastav_plugin.lab.testbed.media import through_a_file
from fastav_plugin.lab.testbed.model import MODEL_PATH, prepare_inputs
from fastav_plugin.lab.testbed.tasks import Item, clips_asked_twice

METHODS = ("none", "fastav", "divprune", "fastav+divprune")
ALONE, NEXT_TURN, INSTEAD = "alone", "next turn", "instead"


def second_answers(
    model: Any, processor: Qwen2_5OmniProcessor, items: list[Item], config: FastAVConfig
) -> Iterator[tuple[str, Item, str]]:
    """Ask every question but the first about one clip, in each way.

    Args:
        model: the thinker.
        processor: its processor.
        items: questions about one clip.
        config: what to prune.

    Yields:
        The way, the question's item and the answer.
    """
    media = through_a_file(items[0].clip())
    prompts = [
        prepare_inputs(processor, *media, item.question.text).to(model.device) for item in items
    ]
    cache = FastAVCache(config)
    first = _generate(model, prompts[0], cache)
    turn = {"role": "user"}
    for item, prompt in zip(items[1:], prompts[1:], strict=True):
        yield ALONE, item, _word(processor, _generate(model, prompt, FastAVCache(config)))
        chat = [turn | {"content": item.question.text}]
        text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        more = processor.tokenizer("<|im_end|>" + text, return_tensors="pt").input_ids
        ids = torch.cat([first, more.to(first.device)], dim=1)
        yield NEXT_TURN, item, _word(processor, _continue(model, ids, copy.deepcopy(cache)))
        ids = prompt["input_ids"]
        width = min(ids.shape[1], cache.get_seq_length())
        same = (ids[:, :width] == first[:, :width]).long().cumprod(dim=1).sum()
        cropped = copy.deepcopy(cache)
        cropped.crop(int(same) - cache.get_seq_length())
        yield INSTEAD, item, _word(processor, _continue(model, ids, cropped))


def _continue(model: Any, ids: torch.Tensor, cache: FastAVCache) -> torch.Tensor:
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return _generate(model, inputs, cache)


def _generate(model: Any, inputs: Any, cache: FastAVCache) -> torch.Tensor:
    """The prompt's ids and one answer token: int64 [1, T + 1]."""
    run = run_once(model, inputs, cache=cache)
    return torch.cat([inputs["input_ids"], run.new_ids], dim=1)


def _word(processor: Qwen2_5OmniProcessor, ids: torch.Tensor) -> str:
    return str(processor.tokenizer.decode(ids[0, -1])).strip()


def measure(
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = MODEL_PATH,
    clips: Annotated[int, typer.Option(help="Clips never trained on.")] = 100,
) -> None:
    """Print the share of right second answers per method and way as JSON."""
    thinker = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    processor = Qwen2_5OmniProcessor.from_pretrained(model)
    asked = clips_asked_twice(clips)
    config = FastAVConfig.from_pretrained(model)
    right: dict[str, dict[str, int]] = {method: defaultdict(int) for method in METHODS}
    total = sum(len(items) - 1 for items in asked)
    for items in track(asked, description="clips"):
        for method in METHODS:
            setting = config.replace(method=method)
            for way, item, answer in second_answers(thinker, processor, items, setting):
                right[method][way] += answer == item.question.answer
            detach(thinker)
    shares = {
        method: {way: round(count / total, 4) for way, count in ways.items()}
        for method, ways in right.items()
    }
    typer.echo(json.dumps({"questions": total, "accuracy": shares}))


if __name__ == "__main__":
    typer.run(measure)
