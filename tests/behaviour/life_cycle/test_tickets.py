"""Never dense in silence: rows that no hook announced are an error, whatever went wrong."""

import copy
from typing import Any

import pytest
import torch

from fastav_plugin import FastAVError, StateError, attach, detach
from tests.support.cache_names import passing
from tests.support.small_models import COUNTS, LENGTH, cache, config, generate, prompt, qwen2, same

IDS = prompt()
NEXT = torch.tensor([[5]])


def step(model: Any, ids: torch.Tensor, past: Any) -> Any:
    with torch.inference_mode():
        return model(input_ids=ids, **passing(past), logits_to_keep=1)


@pytest.fixture
def model() -> Any:
    return qwen2()


def lengths(past: Any) -> list[int]:
    return [layer.keys.shape[-2] for layer in past.layers]


def test_detached_between_prefill_and_decode(model: Any) -> None:
    past = cache()
    step(model, IDS, past)
    detach(model)
    with pytest.raises(StateError, match="detached|attach"):
        step(model, NEXT, past)
    assert lengths(past) == COUNTS
    stock = generate(qwen2(), IDS)
    assert same(generate(model, IDS), stock)
    fresh = cache()
    generate(model, IDS, fresh)
    assert fresh.report().tokens_per_layer == COUNTS


def test_attached_again_between_prefill_and_decode(model: Any) -> None:
    """The new binding does not know the old request: either it serves it or it says so."""
    past = cache()
    step(model, IDS, past)
    expected = step(model, NEXT, copy.deepcopy(past)).logits
    detach(model)
    attach(model, config())
    try:
        assert torch.equal(step(model, NEXT, past).logits, expected)
    except StateError as error:
        assert "FastAVCache" in str(error)
        assert lengths(past) == COUNTS
    detach(model)


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_layer_hook_that_went_missing(model: Any, layer: int) -> None:
    attach(model, config())
    model.model.layers[layer]._forward_pre_hooks.clear()
    # StateError, or torch's own about shapes: loud in any case.
    with pytest.raises(RuntimeError, match="no pruning hook announced|size of tensor"):
        generate(model, IDS, cache())


def test_the_head_hook_that_went_missing(model: Any) -> None:
    attach(model, config())
    model._forward_pre_hooks.clear()
    past = cache()
    # The search for a fresh cache's model does the hook's work in the first call.
    step(model, IDS, past)
    assert lengths(past) == COUNTS
    with pytest.raises(FastAVError):
        step(model, NEXT, past)


def test_the_text_model_hook_that_went_missing(model: Any) -> None:
    attach(model, config())
    model.model._forward_pre_hooks.clear()
    with pytest.raises(FastAVError):
        step(model, IDS, cache())


def test_a_layer_that_runs_twice_appends_once(model: Any) -> None:
    """A custom model that calls a layer's attention twice would hold its rows twice."""
    attach(model, config())
    attention = model.model.layers[1].self_attn
    stock = attention.forward

    def twice(*args: Any, **kwargs: Any) -> Any:
        stock(*args, **kwargs)
        return stock(*args, **kwargs)

    attention.forward = twice
    with pytest.raises(StateError, match="announced"):
        step(model, IDS, cache())
    del attention.forward


def test_rows_given_by_hand(model: Any) -> None:
    past = cache()
    step(model, IDS, past)
    rows = torch.zeros(1, 2, 1, 8)
    for layer in range(4):
        with pytest.raises(StateError):
            past.update(rows, rows, layer)
    with pytest.raises(StateError, match="layer 9"):
        past.update(rows, rows, 9)
    assert lengths(past) == COUNTS


def test_a_ticket_left_by_a_skipped_attention_is_not_used_later(model: Any) -> None:
    """What an interrupted forward announced must not let a stock forward in."""
    past = cache()
    step(model, IDS, past)

    def stop(*_: Any) -> None:
        raise InterruptedError

    handle = model.model.layers[2].self_attn.register_forward_pre_hook(stop)
    with pytest.raises(InterruptedError):
        step(model, NEXT, past)
    handle.remove()
    detach(model)
    with pytest.raises(StateError):
        step(model, NEXT, past)


@pytest.mark.parametrize("bound", [False, True])
def test_the_inner_model_called_by_itself(model: Any, bound: bool) -> None:
    """`model.model(...)` with a FastAVCache prunes, or says what to call."""
    if bound:
        attach(model, config())
    past = cache()
    try:
        with torch.inference_mode():
            model.model(input_ids=IDS, **passing(past))
    except FastAVError as error:
        assert "Qwen2" in str(error)
    else:
        assert past.report().tokens_per_layer == COUNTS
    if not bound:
        detach(model.model)
        assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_head_after_its_inner_model_was_bound(model: Any) -> None:
    """Hooks of both would cut twice."""
    with torch.inference_mode():
        try:
            model.model(input_ids=IDS, **passing(cache()))
        except FastAVError:
            return
    past = cache()
    expected = generate(qwen2(), IDS, cache())
    assert same(generate(model, IDS, past), expected)
    assert past.report().tokens_per_layer == COUNTS


def test_one_cache_over_many_steps_appends_each_row_once(model: Any) -> None:
    past = cache()
    out = generate(model, IDS, past, new=9)
    assert out.sequences.shape[1] == LENGTH + 9
    for layer, count in zip(past.layers, COUNTS, strict=True):
        positions = layer.positions[0]
        assert len(positions) == layer.keys.shape[-2] == count + 8
        assert (positions.diff() > 0).all()
        assert positions[-8:].tolist() == list(range(LENGTH, LENGTH + 8))


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 3},
        {"num_beams": 2, "num_return_sequences": 2},
        {"do_sample": True, "num_return_sequences": 3},
        {"prompt_lookup_num_tokens": 3},
    ],
)
def test_every_way_of_decoding_appends_each_row_once(model: Any, settings: dict[str, Any]) -> None:
    past = cache()
    torch.manual_seed(0)
    settings = {"do_sample": False, **settings}
    model.generate(
        IDS,
        attention_mask=torch.ones_like(IDS),
        **passing(past),
        max_new_tokens=6,
        **settings,
    )
    for layer, count in zip(past.layers, COUNTS, strict=True):
        for positions in layer.positions:
            assert positions.unique().numel() == positions.numel() == layer.keys.shape[-2]
        assert layer.keys.shape[-2] - count == past.get_seq_length() - LENGTH
