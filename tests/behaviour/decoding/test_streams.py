"""Text that leaves generate() word by word, and strings that end it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from transformers import TextIteratorStreamer, TextStreamer

from fastav_plugin import FastAVCache, attach, detach
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cases import config_of, pruned, rows_of
from tests.support.checkpoints import word, word_tokenizer
from tests.support.families import FAMILIES
from tests.support.oracle import STEPS, run
from tests.support.prompts import SUPPRESSED

each_name = pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "omni_interleaved", "gemma3"])
METHOD = "fastav+divprune"


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("drafts", [0, 3])
@each_name
def test_a_text_iterator_read_from_another_thread(name: str, drafts: int, attached: bool) -> None:
    """What a server does: generate in a thread, send words from this one."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    inputs = family.batch(rows_of(name, "single"))
    config = config_of(name, METHOD)
    streamer = TextIteratorStreamer(word_tokenizer(), skip_prompt=True, timeout=60)
    options: dict[str, Any] = {"streamer": streamer}
    if drafts:
        options["prompt_lookup_num_tokens"] = drafts
    if attached:
        attach(model, config)
    else:
        options["cache"] = FastAVCache(config)
    thread = threading.Thread(target=run, args=(model, inputs), kwargs=options)
    thread.start()
    said = "".join(streamer).split()
    thread.join(timeout=60)
    detach(model)
    expected = pruned(name, "sdpa", "single", METHOD).run.tokens[0].tolist()
    assert said == [word(token) for token in expected]


def test_a_text_streamer(capsys: pytest.CaptureFixture[str]) -> None:
    family = FAMILIES["llava"]
    model = family.model("sdpa")
    cache = FastAVCache(config_of("llava", METHOD))
    streamer = TextStreamer(word_tokenizer(), skip_prompt=True)
    try:
        result = run(model, family.batch(rows_of("llava", "single")), cache, streamer=streamer)
    finally:
        detach(model)
    assert capsys.readouterr().out.split() == [word(token) for token in result.tokens[0].tolist()]


@pytest.mark.parametrize("attached", [False, True])
@each_name
def test_a_stop_string(name: str, attached: bool) -> None:
    """The second word of the first batch row ends that row; the others go on."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    inputs = family.batch(rows_of(name, "ragged"))
    expected = pruned(name, "sdpa", "ragged", METHOD).run.tokens
    options: dict[str, Any] = {
        "stop_strings": [word(int(expected[0, 1]))],
        "tokenizer": word_tokenizer(),
        "eos_token_id": SUPPRESSED[-1],  # never said, but without one no batch row is padded
    }
    config = config_of(name, METHOD)
    try:
        if attached:
            attach(model, config)
            result = run(model, inputs, **options)
            assert isinstance(cache_in(result.output), FastAVCache)
        else:
            result = run(model, inputs, FastAVCache(config), **options)
    finally:
        detach(model)
    for said, whole in zip(result.tokens, expected, strict=True):
        stops = (whole == expected[0, 1]).nonzero().flatten().tolist()
        end = stops[0] + 1 if stops else STEPS
        assert torch.equal(said[:end], whole[:end])
        assert not said[end:].any(), "nothing but padding after the stop string"
