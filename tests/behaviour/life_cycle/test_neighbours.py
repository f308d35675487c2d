"""Other things a process does around a pruned request, and what a request leaves behind."""

import copy
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList

from fastav_plugin import FastAVCache, Modality, attach, detach
from fastav_plugin.model_overrides import ModelOverride
from fastav_plugin.model_overrides.registry import OVERRIDES
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cache_names import passing
from tests.support.small_models import (
    COUNTS,
    LENGTH,
    cache,
    config,
    generate,
    global_hooks,
    prompt,
    qwen2,
    same,
)

IDS = prompt()


VIDEO = 79


SETTINGS = config(global_rule="below 10")


class Placeholders(ModelOverride):
    """Qwen2 with a video token, so that attach alone prunes it."""

    def placeholders(self, config: Any) -> dict[int, Modality]:
        return {VIDEO: Modality.VIDEO}


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(OVERRIDES, "qwen2", Placeholders())
    model = qwen2()
    attach(model, SETTINGS)
    yield model
    detach(model)


def video_prompt(seed: int = 0) -> torch.Tensor:
    ids = prompt(seed)
    ids[0, 4:20] = VIDEO
    return ids


def run(model: Any, ids: torch.Tensor | None = None, **settings: Any) -> Any:
    ids = video_prompt() if ids is None else ids
    return generate(model, ids, suppress_tokens=[VIDEO], **settings)


class Nested(LogitsProcessor):
    """Asks another question of some model at every step."""

    def __init__(self, ask: Any) -> None:
        self.ask = ask
        self.answers: list[Any] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.answers.append(self.ask())
        return scores


def nested(ask: Any) -> tuple[LogitsProcessorList, list[Any]]:
    processor = Nested(ask)
    return LogitsProcessorList([processor]), processor.answers


def test_generate_inside_generate(attached: Any) -> None:
    expected, inner = run(attached), run(attached, video_prompt(3), new=2)
    processors, answers = nested(lambda: run(attached, video_prompt(3), new=2))
    out = run(attached, logits_processor=processors)
    assert same(out, expected)
    assert len(answers) == 5
    assert all(same(answer, inner) for answer in answers)


def test_a_direct_call_inside_generate_is_dense(attached: Any) -> None:
    stock = qwen2()(input_ids=video_prompt(3)).logits
    processors, answers = nested(lambda: attached(input_ids=video_prompt(3)).logits)
    assert same(run(attached, logits_processor=processors), run(attached))
    assert all(torch.equal(answer, stock) for answer in answers)


def direct_call_is_dense(model: Any) -> torch.Tensor:
    """A direct call fills the empty cache it was given; returns its logits."""
    mine = DynamicCache(config=model.config)
    with torch.inference_mode():
        out = model(input_ids=video_prompt(3), **passing(mine))
        stock = qwen2()(input_ids=video_prompt(3))
    assert cache_in(out) is mine
    assert mine.get_seq_length() == LENGTH
    assert torch.equal(out.logits, stock.logits)
    return out.logits  # type: ignore[no-any-return]


def test_a_direct_call_with_an_empty_cache_inside_generate_is_dense(attached: Any) -> None:
    """A logits processor that keeps a cache of its own, as guidance does."""
    processors, answers = nested(lambda: direct_call_is_dense(attached))
    assert same(run(attached, logits_processor=processors), run(attached))
    assert len(answers) == 5


def test_another_model_inside_generate() -> None:
    model, other = qwen2(), qwen2(seed=2, num_hidden_layers=6)
    expected, inner = generate(model, IDS, cache()), generate(other, IDS, cache(), new=2)
    detach(model)
    detach(other)
    processors, answers = nested(lambda: generate(other, IDS, cache(), new=2))
    assert same(generate(model, IDS, cache(), logits_processor=processors), expected)
    assert all(same(answer, inner) for answer in answers)
    assert not any(global_hooks().values())


def test_guidance_runs_the_model_twice_a_step(attached: Any) -> None:
    out = run(attached, guidance_scale=1.5, negative_prompt_ids=prompt(6))
    assert isinstance(cache_in(out), FastAVCache)
    assert cache_in(out).report().tokens_per_layer == [30, 30, 20, 18]
    assert torch.isfinite(torch.stack(out.logits)).all()


def test_an_attached_model_as_assistant(attached: Any) -> None:
    """A draft model may prune: what it drafts is checked by the main model."""
    main = qwen2(seed=7)
    expected = run(main, new=8)
    out = run(main, new=8, assistant_model=attached)
    assert torch.equal(out.sequences, expected.sequences)


def test_a_failed_generate_takes_its_mark_away(attached: Any) -> None:
    class Stop(Exception):
        pass

    def fail() -> None:
        raise Stop

    expected = run(attached)
    with pytest.raises(Stop):
        run(attached, logits_processor=nested(fail)[0])
    direct_call_is_dense(attached)
    assert same(run(attached), expected)
    direct_call_is_dense(attached)


def test_the_signature_of_generate_stays(attached: Any) -> None:
    import inspect

    assert inspect.signature(attached.generate) == inspect.signature(qwen2().generate)
    assert attached.generate.__doc__ == type(attached).generate.__doc__


def test_with_gradients() -> None:
    """A direct call under autograd, as in a probe of attributions."""
    model, past = qwen2(), cache()
    out = model(input_ids=IDS, **passing(past))
    with torch.inference_mode():
        again = model(input_ids=IDS, **passing(cache()))
    assert torch.equal(out.logits, again.logits)
    out.logits[:, -1].sum().backward()
    assert model.model.layers[3].mlp.up_proj.weight.grad is not None
    with torch.no_grad():
        model(input_ids=torch.tensor([[5]]), **passing(past))
    assert past.get_seq_length() == LENGTH + 1


def test_nothing_of_the_request_is_kept_but_its_rows() -> None:
    """Pixels, hidden states and masks must not live as long as the cache."""
    model, past = qwen2(), cache()
    ids = IDS.clone()
    embeds = model.get_input_embeddings()(ids).detach()
    mask = torch.ones_like(ids)
    dead = [weakref.ref(embeds), weakref.ref(mask)]
    with torch.inference_mode():
        model(inputs_embeds=embeds, attention_mask=mask, **passing(past))
        model(input_ids=torch.tensor([[5]]), **passing(past))
    del embeds, mask
    gc.collect()
    assert [ref() for ref in dead] == [None, None]
    assert past.report().tokens_per_layer == COUNTS


def test_a_deep_copy_of_a_model_with_a_waiting_cache() -> None:
    """Marks of a pending search must not survive in the copy."""
    model, past = qwen2(), cache()
    generate(model, IDS, new=1)
    twin = copy.deepcopy(model)
    expected = generate(qwen2(), IDS, cache())
    assert same(generate(model, IDS, past), expected)
    assert same(generate(twin, IDS, cache()), expected)
    assert same(generate(twin, IDS), generate(qwen2(), IDS))
