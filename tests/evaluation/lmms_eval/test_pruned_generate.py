"""A model whose generate() prunes whoever calls it, and what given answers score on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, LlavaForConditionalGeneration

from fastav_plugin import ConfigError, FastAVCache, FastAVConfig, StateError, UnsupportedError
from fastav_plugin.evaluation.lmms_eval.pruned_generate import PrunedGenerate
from tests.support.cache_names import passing
from tests.support.checkpoints import save_llava
from tests.support.oracle import held_rows, masked_dense, run

PICTURE = 144
SETTINGS: dict[str, Any] = {
    "method": "fastav+divprune",
    "global_rule": "below 60",
    "global_layer": 2,
}
NEW: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("llava")
    save_llava(made, initializer_range=0.3)
    return made


@pytest.fixture
def model(folder: Path) -> Any:
    found: Any = LlavaForConditionalGeneration.from_pretrained(folder)
    found.generation_config.eos_token_id = None
    return found.eval()


@pytest.fixture
def config(model: Any) -> FastAVConfig:
    return FastAVConfig.for_model(model, **SETTINGS)


@pytest.fixture
def pruned(model: Any, config: FastAVConfig) -> Iterator[PrunedGenerate]:
    found = PrunedGenerate(model, config)
    yield found
    found.remove()


def prompt(model: Any, words: int = 9, seed: int = 0) -> dict[str, Any]:
    """A picture between words."""
    image = model.config.image_token_id
    draw = torch.Generator().manual_seed(seed)
    text = torch.randint(11, 40, (words,), generator=draw).tolist()
    ids = [*text[:3], *[image] * PICTURE, *text[3:]]
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "pixel_values": torch.randn(1, 3, 96, 96, generator=draw),
    }


def batch(model: Any) -> dict[str, Any]:
    """Three prompts of other lengths, padded on the left."""
    rows = [prompt(model, words, seed) for seed, words in enumerate((9, 14, 6))]
    longest = max(row["input_ids"].shape[1] for row in rows)

    def padded(name: str) -> torch.Tensor:
        pad = torch.nn.functional.pad
        return torch.cat([pad(row[name], (longest - row[name].shape[1], 0)) for row in rows])

    pixels = torch.cat([row["pixel_values"] for row in rows])
    names = ("input_ids", "attention_mask")
    return {**{name: padded(name) for name in names}, "pixel_values": pixels}


@torch.no_grad()
def test_a_batch_is_answered_as_with_a_cache(model: Any, config: FastAVConfig) -> None:
    inputs, cache = batch(model), FastAVCache(config)
    wanted = model.generate(**inputs, **NEW, **passing(cache))
    pruned = PrunedGenerate(model, config)
    assert torch.equal(model.generate(**inputs, **NEW), wanted)
    assert [cost.tokens for cost in pruned.costs] == [153, 158, 150]
    for row, cost in enumerate(pruned.costs):
        report = cache.report(row)
        assert (cost.kept, cost.flops_ratio) == (report.tokens_per_layer[-1], report.flops_ratio)
        assert cost.flops_ratio < 0.7 and cost.reason is None
    pruned.remove()
    assert "generate" not in model.__dict__


@torch.no_grad()
def test_a_score_is_that_of_masked_dense(
    model: Any, config: FastAVConfig, pruned: PrunedGenerate
) -> None:
    """What is hidden is what a generate() of the prompt drops, whatever the answer is."""
    inputs, answer = prompt(model), torch.tensor([20, 33, 17])
    loss, greedy = pruned.score(answer.tolist(), lambda: model.generate(**inputs, **NEW))
    assert not greedy
    cache = FastAVCache(config)
    model.generate(**inputs, **NEW, **passing(cache))
    pruned.remove()
    held = held_rows(cache, inputs["input_ids"].shape[1])
    assert int(held[-1].sum()) < int(held[0].sum()) < inputs["input_ids"].shape[1]
    logits = masked_dense(model, inputs, held, forced=answer[None]).logits[:, 0]
    wanted = torch.nn.functional.cross_entropy(logits, answer)
    assert loss == pytest.approx(wanted.item(), abs=1e-4)
    dense = run(model, inputs, forced=answer[None], steps=len(answer)).logits[:, 0]
    assert loss != pytest.approx(torch.nn.functional.cross_entropy(dense, answer).item(), abs=1e-3)


@torch.no_grad()
def test_what_the_model_says_itself_is_greedy(model: Any, pruned: PrunedGenerate) -> None:
    inputs = prompt(model)
    said = model.generate(**inputs, **NEW)[0, inputs["input_ids"].shape[1] :].tolist()
    own, greedy = pruned.score(said, lambda: model.generate(**inputs, **NEW))
    assert greedy
    other, greedy = pruned.score([*said[:-1], said[0]], lambda: model.generate(**inputs, **NEW))
    assert not greedy and other > own
    assert len(pruned.costs) == 3 and len(set(pruned.costs)) == 1


@torch.no_grad()
def test_how_tokens_are_chosen_changes_no_score(model: Any, pruned: PrunedGenerate) -> None:
    inputs = prompt(model)
    plain = pruned.score([20, 33], lambda: model.generate(**inputs))
    ids = inputs.pop("input_ids")
    settings = {"do_sample": True, "temperature": 3.0, "num_beams": 4, "repetition_penalty": 9.0}
    assert pruned.score([20, 33], lambda: model.generate(ids, **inputs, **settings)) == plain


def test_a_refusal_stays(model: Any, pruned: PrunedGenerate) -> None:
    """A program that goes on after an error gets no dense answer, and no empty ones."""
    with pytest.raises(UnsupportedError, match="use_cache=False"):
        model.generate(**prompt(model), **NEW, use_cache=False)
    with pytest.raises(UnsupportedError, match="use_cache=False"):
        model.generate(**prompt(model), **NEW)
    with pytest.raises(UnsupportedError, match="use_cache=False"):
        pruned.refuse()
    assert pruned.costs == []


def test_a_cache_of_the_caller_is_refused(model: Any, pruned: PrunedGenerate) -> None:
    with pytest.raises(UnsupportedError, match="a cache of the caller's"):
        model.generate(**prompt(model), **NEW, **passing(DynamicCache()))
    assert pruned.refusal is not None


def test_an_answer_without_a_prompt_is_refused(model: Any, pruned: PrunedGenerate) -> None:
    with pytest.raises(StateError, match="cannot be scored"):
        pruned.score([20], lambda: None)
    with pytest.raises(ConfigError, match="after the `input_ids` of one prompt"):
        pruned.score([20], lambda: model.generate(**batch(model)))


def test_a_prompt_without_media_says_why_nothing_was_cut(
    model: Any, pruned: PrunedGenerate
) -> None:
    model.generate(input_ids=torch.tensor([[20, 21, 22]]), **NEW)
    (cost,) = pruned.costs
    assert cost.reason is not None
    assert (cost.tokens, cost.kept, cost.flops_ratio) == (3, 3, 1.0)
