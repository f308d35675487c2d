"""Prompts of each family from a request's pieces, and what the model says to them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastav_plugin import FastAVCache, attach, detach
from fastav_plugin.model_overrides import find_override
from fastav_plugin.model_overrides.tgi.generation import Generation
from fastav_plugin.model_overrides.tgi.layouts import find_layout
from fastav_plugin.model_overrides.tgi.prompts import Prompt, PromptError, PromptReader
from fastav_plugin.serving.media.policy import MediaPolicy
from tests.matrix.listed import cases
from tests.model_overrides.tgi.processors import PROCESSORS
from tests.model_overrides.tgi.served import ask, picture
from tests.support.cache_names import passing
from tests.support.cases import config_of
from tests.support.checkpoints import word
from tests.support.families import KNOWN
from tests.support.prompts import SUPPRESSED

# PaliGemma's processor makes numpy arrays of tensors in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = 4
WORDS = " ".join(word(token) for token in range(10, 19)) + " "


@pytest.fixture(params=PROCESSORS)
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    found: str = request.param
    if found.startswith("matrix_"):
        cases(found.removeprefix("matrix_").removesuffix("_2"))  # which makes them known
    yield found
    detach(KNOWN[found].model())


def reader_of(name: str) -> PromptReader:
    head, processor = KNOWN[name].model(), PROCESSORS[name]()
    layout = find_layout(processor, processor.tokenizer, head.config)
    override = find_override(head)
    return PromptReader(layout, processor.tokenizer, head.config, override, MediaPolicy())


def _placeholder(name: str) -> str:
    return "<image>" if name.startswith("matrix_") else word(90)


def said(head: Any, prompt: Prompt, cache: Any) -> Any:
    """Tokens and logits of generate()."""
    return head.generate(
        **prompt.inputs,
        **passing(cache),
        max_new_tokens=STEPS,
        do_sample=False,
        suppress_tokens=SUPPRESSED,
        output_logits=True,
        return_dict_in_generate=True,
    )


def test_every_family_is_served_as_generate_serves_it(name: str) -> None:
    """Two pictures, words, one picture: prefilled apart, decoded together."""
    reader, head = reader_of(name), KNOWN[name].model()
    config = config_of(name, "fastav+divprune")
    one, two = picture(1, 40, 24), picture(2, 20, 20)
    asked = [
        ask(0, WORDS, one, WORDS, two, WORDS),
        ask(1, WORDS),
        ask(2, two, WORDS),
    ]
    prompts = [reader.read(request) for request in asked]
    expected = [said(head, prompt, FastAVCache(config)) for prompt in prompts]
    attach(head, config)
    generation = Generation(head, config)
    logits, cache = generation.prefill(prompts)
    lengths = [len(prompt.ids) for prompt in prompts]
    for step in range(STEPS):
        wanted = torch.stack([output.logits[step][0] for output in expected])
        torch.testing.assert_close(logits[:, 0], wanted, rtol=0, atol=1e-4)
        tokens = [
            output.sequences[0, length + step]
            for length, output in zip(lengths, expected, strict=True)
        ]
        width = max(lengths) + step + 1
        real = torch.arange(width) >= width - 1 - step - torch.tensor(lengths)[:, None]
        positions = torch.tensor(lengths)[:, None] + step
        logits = generation.decode(torch.stack(tokens)[:, None], real.long(), positions, cache)


def test_the_prompt_is_the_processors_own(name: str) -> None:
    """Placeholders stand where the picture was, as many as the model has features for it."""
    reader, processor = reader_of(name), PROCESSORS[name]()
    data = picture(3, 40, 24)
    mark = word(93) if name == "gemma3" else _placeholder(name)
    if name.startswith("qwen"):
        mark = word(93) + mark + word(94)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    wanted = processor(text=[WORDS + mark + WORDS], images=[image], return_tensors="pt")
    prompt = reader.read(ask(0, WORDS, data, WORDS))
    assert torch.equal(prompt.inputs["input_ids"], wanted["input_ids"])
    assert torch.equal(prompt.inputs["pixel_values"], wanted["pixel_values"])
    text = reader.read(ask(0, WORDS))
    assert text.ids.tolist() == list(range(10, 19))


@pytest.mark.parametrize("height", [1, 3, 4])
def test_pictures_of_a_few_lines(name: str, height: int) -> None:
    """No processor takes their lines for channels."""
    reader, processor = reader_of(name), PROCESSORS[name]()
    data = picture(3, 40, height)
    rows = torch.from_numpy(np.array(Image.open(io.BytesIO(data))))
    options = {"return_tensors": "pt", "input_data_format": "channels_first"}
    wanted = processor.image_processor(images=[rows.permute(2, 0, 1)], **options)["pixel_values"]
    found = reader.read(ask(0, WORDS, data, WORDS)).inputs["pixel_values"]
    assert torch.equal(found, torch.as_tensor(wanted))


def test_truncation_keeps_media_whole(name: str) -> None:
    reader = reader_of(name)
    data = picture(3, 40, 24)
    whole = reader.read(ask(0, WORDS, data, WORDS))
    length = len(whole.ids)
    shorter = reader.read(ask(0, WORDS, data, WORDS, truncate=length - 5))
    assert torch.equal(shorter.ids, whole.ids[5:])
    for value in shorter.inputs.values():
        assert tuple(value.shape[:2]) != (1, length)
    with pytest.raises(PromptError, match="cut into a medium"):
        reader.read(ask(0, WORDS, data, WORDS, truncate=length - 12))
    words = reader.read(ask(0, WORDS, truncate=4))
    assert words.ids.tolist() == [15, 16, 17, 18]


def test_media_the_model_does_not_take(name: str) -> None:
    reader = reader_of(name)
    with pytest.raises(PromptError, match="takes no audio"):
        reader.read(ask(0, "<audio>x.wav</audio>"))
    with pytest.raises(PromptError, match="placeholder"):
        reader.read(ask(0, f"{WORDS} {_placeholder(name)}"))
