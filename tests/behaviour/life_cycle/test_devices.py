"""Devices and dtypes: nothing waits in decode, everything follows the tensors it works on."""

import sys
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fastav_plugin import FastAVCache, TokenMap
from tests.support.cache_names import passing
from tests.support.small_models import (
    COUNTS,
    LENGTH,
    cache,
    config,
    generate,
    prompt,
    qwen2,
    tokens,
)

IDS = prompt()


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
        model(input_ids=ids, attention_mask=mask, **passing(past))
        listed.clear()
        for step in range(3):
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            with Syncs() as syncs:
                model(
                    input_ids=torch.tensor([[5 + step], [6 + step]]),
                    attention_mask=mask,
                    **passing(past),
                )
            assert syncs.found == []
            assert not [name for name in listed if name.startswith("fastav_plugin")]


def test_the_watch_on_waiting_sees_prefill() -> None:
    """A ragged cut has to learn its width, so the check above would notice."""
    model, past = qwen2(), cache()
    with torch.inference_mode(), Syncs() as syncs:
        model(input_ids=IDS, **passing(past))
    assert syncs.found


def test_prefill_waits_about_once_per_cut() -> None:
    """Not once per row, token or layer."""
    model = qwen2(num_hidden_layers=12)
    past = cache()
    with torch.inference_mode(), Syncs() as syncs:
        model(input_ids=IDS, **passing(past))
    cuts = 6
    assert len(syncs.found) <= 3 * cuts + 6, syncs.found


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
            model(input_ids=IDS, **passing(past))
    except NotImplementedError as error:
        pytest.skip(f"the stock model itself does not run so: {error}")
    finally:
        torch.set_default_device(None)
    assert past.report().tokens_per_layer == COUNTS
