"""Settings of generate(), pruned by a cache and on an attached model, against masked dense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
    WatermarkingConfig,
)
from transformers.generation.utils import GenerateDecoderOnlyOutput

from fastav_plugin import FastAVCache, attach, detach
from fastav_plugin.upstream.arguments import cache_in, output_name
from tests.support.cache_names import passing
from tests.support.cases import METHODS, assert_close, config_of, rows_of
from tests.support.families import FAMILIES
from tests.support.oracle import STEPS, held_rows, hidden
from tests.support.prompts import PAD, SUPPRESSED

#: Of each kind one: ids only, M-RoPE, sound and video, sliding windows.
NAMES = ("llava", "qwen2_5_vl", "omni_interleaved", "gemma3")


class _AfterThree(StoppingCriteria):
    """A criterion of the user's."""

    def __init__(self, prompt: int) -> None:
        self.length = prompt + 3

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((input_ids.shape[0],), input_ids.shape[1] >= self.length)


def _own_loop(model: Any, input_ids: Tensor, logits_processor: Any, **rest: Any) -> Any:
    """A greedy decoding loop given as `custom_generate`."""
    for name in ("stopping_criteria", "generation_config"):
        del rest[name]
    logits: list[Tensor] = []
    for step in range(STEPS):
        last = {} if step == 0 else {"next_sequence_length": 1}
        inputs = model.prepare_inputs_for_generation(
            input_ids, is_first_iteration=step == 0, **last, **rest
        )
        output = model(**inputs)
        rest = model._update_model_kwargs_for_generation(output, rest)
        logits.append(output.logits[:, -1].float())
        said = logits_processor(input_ids, logits[-1]).argmax(dim=-1, keepdim=True)
        input_ids = torch.cat([input_ids, said], dim=1)
    made: dict[str, Any] = {"sequences": input_ids, "logits": tuple(logits)}
    return GenerateDecoderOnlyOutput(**made, **{output_name(): cache_in(output)})


#: Settings by name, from the prompt's length; "expansion" says how many rows a prompt becomes.
SETTINGS: dict[str, Callable[[int], dict[str, Any]]] = {
    "sampling": lambda length: {"do_sample": True, "temperature": 1.5, "top_k": 20},
    "sampling_by_mass": lambda length: {"do_sample": True, "top_p": 0.9, "min_p": 0.01},
    "sampling_several": lambda length: {
        "do_sample": True,
        "num_return_sequences": 3,
        "expansion": 3,
    },
    "beams": lambda length: {"num_beams": 3, "expansion": 3},
    "beams_several": lambda length: {
        "num_beams": 3,
        "num_return_sequences": 3,
        "early_stopping": True,
        "length_penalty": 0.5,
        "expansion": 3,
    },
    "beam_sampling": lambda length: {
        "num_beams": 3,
        "do_sample": True,
        "temperature": 1.3,
        "expansion": 3,
    },
    "max_length": lambda length: {"max_new_tokens": None, "max_length": length + 4},
    "early_end": lambda length: {"eos_token_id": list(range(1, 40)), "min_new_tokens": 2},
    "max_time": lambda length: {"max_time": 1e-6},
    "own_criterion": lambda length: {
        "stopping_criteria": StoppingCriteriaList([_AfterThree(length)])
    },
    "penalties": lambda length: {
        "bad_words_ids": [[7], [3, 4]],
        "no_repeat_ngram_size": 2,
        "repetition_penalty": 1.3,
        "sequence_bias": {(10,): 3.0, (11, 12): -4.0},
    },
    "prefix_allowed": lambda length: {
        "prefix_allowed_tokens_fn": lambda row, ids: list(range(1, 40))
    },
    "watermark": lambda length: {"watermarking_config": WatermarkingConfig(bias=2.5)},
    "own_loop": lambda length: {"custom_generate": _own_loop},
    "scores": lambda length: {"output_scores": True, "renormalize_logits": True},
    "config_object": lambda length: {
        "generation_config": GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=STEPS,
            do_sample=False,
            suppress_tokens=SUPPRESSED,
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=PAD,
        )
    },
}


def _generate(model: Any, inputs: dict[str, Any], settings: dict[str, Any], **past: Any) -> Any:
    torch.manual_seed(5)
    if "generation_config" not in settings:
        settings = {
            "max_new_tokens": STEPS,
            "do_sample": False,
            "suppress_tokens": SUPPRESSED,
            "return_dict_in_generate": True,
            "output_logits": True,
        } | settings
    given = {name: value for name, value in settings.items() if value is not None}
    return model.generate(**inputs, **given, **past)


def _check(name: str, shape: str, method: str, setting: str) -> None:
    family = FAMILIES[name]
    model = family.model("sdpa")
    items = rows_of(name, shape)
    inputs = family.batch(items)
    config = config_of(name, method)
    length = inputs["input_ids"].shape[1]

    def settings() -> dict[str, Any]:
        return {k: v for k, v in SETTINGS[setting](length).items() if k != "expansion"}

    expansion = SETTINGS[setting](length).get("expansion", 1)
    try:
        cache = FastAVCache(config, family.token_map(items))
        pruned = _generate(model, inputs, settings(), **passing(cache))
        held = [mask[::expansion] for mask in held_rows(cache, length)]
        assert not held[-1].all(), "nothing was cut"
        detach(model)
        with hidden(model, held):
            expected = _generate(model, inputs, settings())
        assert torch.equal(pruned.sequences, expected.sequences)
        for mine, theirs in zip(pruned.logits, expected.logits, strict=True):
            assert_close(mine, theirs)
        attach(model, config)
        attached = _generate(model, inputs, settings())
        assert isinstance(cache_in(attached), FastAVCache)
        assert torch.equal(attached.sequences, pruned.sequences)
        for mine, theirs in zip(attached.logits, pruned.logits, strict=True):
            assert torch.equal(mine, theirs)
    finally:
        detach(model)


@pytest.mark.parametrize(
    ("setting", "name"),
    [(setting, name) for n, setting in enumerate(SETTINGS) for name in NAMES[n % 2 :: 2]],
)
def test_every_setting_prunes_as_masked_dense(setting: str, name: str) -> None:
    _check(name, "ragged", "fastav+divprune", setting)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["single", "ragged", "level"])
@pytest.mark.parametrize("name", NAMES)
def test_every_setting_in_full(name: str, shape: str, method: str, setting: str) -> None:
    _check(name, shape, method, setting)


@pytest.mark.parametrize("kept", [0, 1, 4])
@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_logits_to_keep(name: str, kept: int) -> None:
    """Logits protect as many tokens, and change nothing where none of these is media."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    inputs = family.batch(rows_of(name, "ragged"))
    cache = FastAVCache(config_of(name, "fastav"))
    try:
        pruned = _generate(model, inputs, {"logits_to_keep": kept}, **passing(cache))
        held = held_rows(cache, inputs["input_ids"].shape[1])
        detach(model)
        with hidden(model, held):
            expected = _generate(model, inputs, {})
    finally:
        detach(model)
    assert torch.equal(pruned.sequences, expected.sequences)
    assert all(mask[:, inputs["input_ids"].shape[1] - max(1, kept) :].all() for mask in held)


@pytest.mark.parametrize("negative", [None, [[3, 4, 5]]])
@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_classifier_free_guidance(name: str, negative: list[list[int]] | None) -> None:
    """The unconditional prompt runs inside generate through the same model, dense."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    inputs = family.batch(rows_of(name, "single"))
    settings: dict[str, Any] = {"guidance_scale": 1.7}
    if negative is not None:
        settings["negative_prompt_ids"] = torch.tensor(negative)
    cache = FastAVCache(config_of(name, "fastav+divprune"))
    try:
        pruned = _generate(model, inputs, settings, **passing(cache))
        length = inputs["input_ids"].shape[1]
        held = held_rows(cache, length)
        detach(model)
        with hidden(model, held, shortest=length):
            expected = _generate(model, inputs, settings)
        assert torch.equal(pruned.sequences, expected.sequences)
        for mine, theirs in zip(pruned.logits, expected.logits, strict=True):
            assert_close(mine, theirs)
        attach(model, config_of(name, "fastav+divprune"))
        assert torch.equal(_generate(model, inputs, settings).sequences, pruned.sequences)
    finally:
        detach(model)


def test_embeddings_on_an_attached_model_are_dense_with_a_reason() -> None:
    family = FAMILIES["llava"]
    model = family.model("sdpa")
    inputs = family.batch(rows_of("llava", "ragged"))
    embeds = model.get_input_embeddings()(inputs["input_ids"]).detach()
    given = {"inputs_embeds": embeds, "attention_mask": inputs["attention_mask"]}
    stock = _generate(model, given, {})
    attach(model, config_of("llava", "fastav"))
    try:
        attached = _generate(model, given, {})
    finally:
        detach(model)
    assert torch.equal(attached.sequences, stock.sequences)
    assert "embeddings" in str(cache_in(attached).report().reason)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "omni_all"])
def test_a_call_that_records_gradients(name: str) -> None:
    """Nobody has to remember torch.no_grad()."""
    family = FAMILIES[name]
    model = family.model("sdpa")
    inputs = family.batch(rows_of(name, "single"))
    try:
        lengths = []
        for recording in (False, True):
            cache: Any = FastAVCache(config_of(name, "fastav+divprune"))
            with torch.set_grad_enabled(recording):
                output = model(**inputs, **passing(cache))
            assert output.logits.requires_grad is recording
            lengths.append([layer.num_tokens for layer in cache.layers])
        assert lengths[0] == lengths[1]
    finally:
        detach(model)
