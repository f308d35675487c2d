"""Other things a process does around a pruned request, and what a request leaves behind."""

import copy
import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList

from fastav_plugin import FastAVCache, Modality, TokenMap, attach, detach
from fastav_plugin.model_overrides import ModelOverride
from fastav_plugin.model_overrides.registry import OVERRIDES
from tests.life_cycle.models import (
    COUNTS,
    LENGTH,
    cache,
    config,
    generate,
    global_hooks,
    prompt,
    qwen2,
    same,
    tokens,
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
        out = model(input_ids=video_prompt(3), past_key_values=mine)
        stock = qwen2()(input_ids=video_prompt(3))
    assert out.past_key_values is mine
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
    assert isinstance(out.past_key_values, FastAVCache)
    assert out.past_key_values.report().tokens_per_layer == [30, 30, 20, 18]
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
    out = model(input_ids=IDS, past_key_values=past)
    with torch.inference_mode():
        again = model(input_ids=IDS, past_key_values=cache())
    assert torch.equal(out.logits, again.logits)
    out.logits[:, -1].sum().backward()
    assert model.model.layers[3].mlp.up_proj.weight.grad is not None
    with torch.no_grad():
        model(input_ids=torch.tensor([[5]]), past_key_values=past)
    assert past.get_seq_length() == LENGTH + 1


def test_nothing_of_the_request_is_kept_but_its_rows() -> None:
    """Pixels, hidden states and masks must not live as long as the cache."""
    model, past = qwen2(), cache()
    ids = IDS.clone()
    embeds = model.get_input_embeddings()(ids).detach()
    mask = torch.ones_like(ids)
    dead = [weakref.ref(embeds), weakref.ref(mask)]
    with torch.inference_mode():
        model(inputs_embeds=embeds, attention_mask=mask, past_key_values=past)
        model(input_ids=torch.tensor([[5]]), past_key_values=past)
    del embeds, mask
    gc.collect()
    assert [ref() for ref in dead] == [None, None]
    assert past.report().tokens_per_layer == COUNTS


class Syncs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operators that would wait for a device, where our own code asks for them."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in self.WAITING):
            frame: Any = sys._getframe(1)
            while frame is not None:
                name = frame.f_globals.get("__name__", "")
                if name.startswith("fastav_plugin"):
                    self.found.append(f"{func} in {name}:{frame.f_lineno}")
                    break
                if name.startswith("transformers"):
                    break
                frame = frame.f_back
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_decode_never_waits_for_the_device(
    padded: bool, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    stock = torch.Tensor.tolist

    def tolist(tensor: torch.Tensor) -> Any:
        # On the CPU a list is made without an operator that a mode could see.
        listed.append(sys._getframe(1).f_globals.get("__name__", ""))
        return stock(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", tolist)
    model = qwen2(attention=attention)
    ids, mask = prompt(batch=2), torch.ones(2, LENGTH, dtype=torch.int64)
    maps = TokenMap.batch([tokens(), tokens()])
    if padded:
        mask[1, :9] = 0
        maps = TokenMap.batch([tokens(), TokenMap.from_spans(LENGTH - 9, video=[(2, 9)])])
    past = FastAVCache(config(), maps)
    with torch.inference_mode():
        model(input_ids=ids, attention_mask=mask, past_key_values=past)
        listed.clear()
        for step in range(3):
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            with Syncs() as syncs:
                model(
                    input_ids=torch.tensor([[5 + step], [6 + step]]),
                    attention_mask=mask,
                    past_key_values=past,
                )
            assert syncs.found == []
            assert not [name for name in listed if name.startswith("fastav_plugin")]


def test_the_watch_on_waiting_sees_prefill() -> None:
    """A ragged cut has to learn its width, so the check above would notice."""
    model, past = qwen2(), cache()
    with torch.inference_mode(), Syncs() as syncs:
        model(input_ids=IDS, past_key_values=past)
    assert syncs.found


def test_prefill_waits_about_once_per_cut() -> None:
    """Not once per row, token or layer."""
    model = qwen2(num_hidden_layers=12)
    past = cache()
    with torch.inference_mode(), Syncs() as syncs:
        model(input_ids=IDS, past_key_values=past)
    cuts = 6
    assert len(syncs.found) <= 3 * cuts + 6, syncs.found


def test_a_deep_copy_of_a_model_with_a_waiting_cache() -> None:
    """Marks of a pending search must not survive in the copy."""
    model, past = qwen2(), cache()
    generate(model, IDS, new=1)
    twin = copy.deepcopy(model)
    expected = generate(qwen2(), IDS, cache())
    assert same(generate(model, IDS, past), expected)
    assert same(generate(twin, IDS, cache()), expected)
    assert same(generate(twin, IDS), generate(qwen2(), IDS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype: torch.dtype) -> None:
    model, past = qwen2().to(dtype), cache()
    out = generate(model, IDS, past)
    assert past.report().tokens_per_layer == COUNTS
    assert torch.isfinite(out.logits[-1]).all()
    assert past.layers[3].keys.dtype == dtype


def test_a_frozen_default_dtype_is_not_needed() -> None:
    """float64 as default dtype must not leak into a float32 model."""
    expected = generate(qwen2(), IDS, cache())
    model = qwen2()
    torch.set_default_dtype(torch.float64)
    try:
        out = generate(model, IDS, cache())
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(out.sequences, expected.sequences)


def test_a_default_device_is_not_needed() -> None:
    """Tensors follow the tensors they index, not the default device."""
    model, past = qwen2(), cache()
    torch.set_default_device("meta")
    try:
        with torch.inference_mode():
            model(input_ids=IDS, past_key_values=past)
    except NotImplementedError as error:
        pytest.skip(f"the stock model itself does not run so: {error}")
    finally:
        torch.set_default_device(None)
    assert past.report().tokens_per_layer == COUNTS
