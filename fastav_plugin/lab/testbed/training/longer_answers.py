"""What a longer text loses: `python -m fastav_plugin.lab.testbed.training.longer_answers`.

The model's answers are one word, so a longer text is composed: its dense answer, the end of that
turn, another question about the same clip and its dense answer, all forced token by token in one
generate(). Every token's distribution is compared with the dense one; the last token answers a
question that came after every cut.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import track
from torch import Tensor
from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from fastav_plugin.analysis.measured_run import run_once
from fastav_plugin.config import FastAVConfig
from fastav_plugin.lab.testbed.media import through_a_file
from fastav_plugin.lab.testbed.model import MODEL_PATH, prepare_inputs
from fastav_plugin.lab.testbed.tasks import Item, clips_asked_twice

LATE = "late_removal"
METHODS = ("fastav", "divprune", "fastav+divprune")
COMPARED = ("none", LATE, *(name for m in METHODS for name in (m, f"{m}+{LATE}")))
#: Tokens of the text: the first answer, what lies between, and the answer to the second question.
FIRST, BETWEEN, SECOND = "first answer", "between", "second answer"


def dictate(
    model: Any, inputs: Mapping[str, Any], text: Tensor, config: FastAVConfig | None
) -> Tensor:
    """The model's logits [n, vocabulary] before each of n forced tokens.

    Args:
        model: in evaluation mode.
        inputs: of generate(), batch size 1.
        text: int64 [n].
        config: what to prune; None for the stock model.
    """
    # The end of a turn must not end the text, and padding is never forced.
    end = model.generation_config.pad_token_id
    return torch.cat(run_once(model, inputs, config, forced=text, eos_token_id=end).logits)


def compare_text(
    model: Any, processor: Qwen2_5OmniProcessor, items: list[Item], configs: dict[str, FastAVConfig]
) -> dict[str, dict[str, list[tuple[float, bool]]]]:
    """KL from dense, in nats, and whether the most likely token is the same.

    Args:
        model: the thinker.
        processor: its processor.
        items: two questions about one clip.
        configs: by name.

    Returns:
        By name and part of the text, one pair for each of its tokens.
    """
    media = through_a_file(items[0].clip())
    inputs = prepare_inputs(processor, *media, items[0].question.text).to(model.device)
    chat = [{"role": "user", "content": items[1].question.text}]
    turn = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    between = processor.tokenizer("<|im_end|>" + turn, return_tensors="pt").input_ids[0]
    answer = dictate(model, inputs, between[:1], None)[0].argmax()
    # The last token is forced too; only its logits count.
    text = torch.cat([answer[None].cpu(), between, between[:1]])
    dense = dictate(model, inputs, text, None).double().log_softmax(dim=-1)
    places = {FIRST: [0], BETWEEN: range(1, len(text) - 1), SECOND: [len(text) - 1]}
    found = {}
    for name, config in configs.items():
        pruned = dictate(model, inputs, text, config).double().log_softmax(dim=-1)
        kl = (dense.exp() * (dense - pruned)).sum(dim=-1).clamp(min=0)
        same = dense.argmax(dim=-1) == pruned.argmax(dim=-1)
        found[name] = {
            part: [(float(kl[place]), bool(same[place])) for place in own]
            for part, own in places.items()
        }
    return found


def measure(
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = MODEL_PATH,
    clips: Annotated[int, typer.Option(help="Clips never trained on.")] = 60,
) -> None:
    """Print mean KL and agreement with dense per method and part of the text as JSON."""
    thinker = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    processor = Qwen2_5OmniProcessor.from_pretrained(model)
    asked = [items[:2] for items in clips_asked_twice(clips)]
    config = FastAVConfig.from_pretrained(model)
    configs = {method: config.replace(method=method) for method in COMPARED}
    texts = [
        compare_text(thinker, processor, items, configs)
        for items in track(asked, description="clips")
    ]
    found = {}
    for method in COMPARED:
        found[method] = {
            part: _means([pair for text in texts for pair in text[method][part]])
            for part in (FIRST, BETWEEN, SECOND)
        }
    typer.echo(json.dumps({"clips": len(texts), "methods": found}))


def _means(pairs: list[tuple[float, bool]]) -> dict[str, float]:
    return {
        "kl": round(statistics.fmean(kl for kl, _ in pairs), 4),
        "agreement": round(statistics.fmean(same for _, same in pairs), 4),
    }


if __name__ == "__main__":
    typer.run(measure)
