"""Layers on several devices: hooks see tensors before accelerate moves them."""

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import FastAVCache, detach
from tests.support.cases import TOLERANCE, config_of, prune, rows_of
from tests.support.families import KNOWN, build
from tests.support.family_configs import LAYERS

if importlib.util.find_spec("accelerate") is None:
    pytest.skip("accelerate is not installed", allow_module_level=True)

from tests.behaviour.devices.placed import FIRST, SECOND, Placed, on_two_devices, place, places
from tests.support.oracle import run
from tests.support.turns import later_inputs, talk

METHODS = ("fastav", "divprune", "fastav+divprune")


def plain(value: Any) -> Tensor:
    """The CPU tensor of a Placed one."""
    assert isinstance(value, Placed)
    return value.on_cpu


def check(
    name: str, method: str, shape: str, attention: str, since: int, **options: Any
) -> FastAVCache:
    """A model on two devices says and keeps what it does on one."""
    family, rows = KNOWN[name], rows_of(name, shape)
    changes = {key: options.pop(key) for key in ("positions",) if key in options}
    back = options.pop("back", False)
    config = config_of(name, method, **changes)
    expected = prune(name, attention, rows, config, **options)
    model, cache = build(name, attention), FastAVCache(config, family.token_map(rows))
    with on_two_devices(model, since, back=back):
        found = run(model, place(family.batch(rows), FIRST), cache, **options)
    assert torch.equal(plain(found.tokens), expected.run.tokens)
    torch.testing.assert_close(plain(found.logits), expected.run.logits, rtol=0, atol=TOLERANCE)
    layers: Any = zip(cache.layers, expected.cache.layers, strict=True)
    with places():
        for index, (mine, yours) in enumerate(layers):
            assert mine.keys.device == (SECOND if index >= since else FIRST)
            assert torch.equal(plain(mine.positions), yours.positions)
        assert cache.report(row=None).flops_ratio == expected.report.flops_ratio
    return cache


@pytest.mark.parametrize("since", [1, LAYERS // 2 + 1])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_batch_of_different_prompts(attention: str, since: int) -> None:
    """The loop's mask stays on the first device, while a later cut is made on the second."""
    check("llava", "fastav+divprune", "ragged", attention, since)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 2},
        {"prompt_lookup_num_tokens": 2},
        {"positions": "renumbered"},
        {"back": True},
    ],
    ids=["beams", "drafts", "renumbered", "io_same_device"],
)
def test_rows_are_moved_on_each_device(options: dict[str, Any]) -> None:
    shape = "single" if "prompt_lookup_num_tokens" in options else "ragged"
    check("llava", "fastav+divprune", shape, "sdpa", LAYERS // 2 + 1, **options)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_later_turn(attention: str) -> None:
    """Its mask reaches over what each layer holds, on either device."""
    name, family = "llava", KNOWN["llava"]
    turns = [rows_of(name, "ragged"), rows_of(name, "ragged")]
    config = config_of(name, "fastav+divprune")
    model = build(name, attention)
    expected = talk(name, model, FastAVCache(config), turns)
    detach(model)
    cache = FastAVCache(config)
    inputs = family.batch(turns[0])
    with on_two_devices(model, LAYERS // 2 + 1):
        first = run(model, place(inputs, FIRST), cache)
        inputs = later_inputs(name, inputs, plain(first.tokens), turns[1])
        second = run(model, place(inputs, FIRST), cache)
    for found, wanted in zip((first, second), expected, strict=True):
        assert torch.equal(plain(found.tokens), wanted.tokens)
        torch.testing.assert_close(plain(found.logits), wanted.logits, rtol=0, atol=TOLERANCE)


def test_the_stand_in_refuses_what_devices_refuse() -> None:
    with places():
        one, two = place(torch.ones(2, 3), FIRST), place(torch.ones(2, 3), SECOND)
        assert (one + 1).device == (one + torch.tensor(1.0)).device == FIRST
        assert one.to(SECOND).device == SECOND
        assert torch.arange(3, device=SECOND).device == SECOND
        for wrong in (
            lambda: one + two,
            lambda: one & torch.ones(2, 3),
            lambda: one[two.long()],
            lambda: one.gather(1, torch.zeros(2, 3, dtype=torch.int64)),
        ):
            with pytest.raises(RuntimeError, match="different devices"):
                wrong()  # type: ignore[no-untyped-call]
        assert plain(one[torch.tensor([0])]).shape == (1, 3)
        one.add_(1)
        assert plain(one).sum() == 12


@pytest.mark.slow
@pytest.mark.parametrize("since", [1, LAYERS // 2 + 1])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("shape", ["ragged", "level"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["llava", "llava_onevision", "gemma3", "omni_all", "qwen2_text"])
def test_the_matrix(name: str, method: str, shape: str, attention: str, since: int) -> None:
    check(name, method, shape, attention, since)
