"""A forward pass that was interrupted is noticed by the next one."""

from typing import Any

import pytest
import torch

from fastav_plugin import FastAVCache, StateError
from tests.support.cache_names import passing
from tests.support.family_copies import omni, run
from tests.support.small_models import cache, config, generate, prompt, same
from tests.support.witness import Witness

IDS = prompt()


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
@pytest.mark.parametrize("step", ["prefill", "decode"])
def test_an_interrupted_forward_is_noticed(witness: Witness, layer: int, step: str) -> None:
    class Stop(Exception):
        pass

    past = cache()
    if step == "decode":
        witness.model(input_ids=IDS, **passing(past))

    def stop(*_: Any) -> None:
        raise Stop

    handle = witness.model.model.layers[layer].mlp.register_forward_pre_hook(stop)
    again = torch.tensor([[5]]) if step == "decode" else IDS
    with pytest.raises(Stop):
        witness.model(input_ids=again, **passing(past))
    handle.remove()
    with pytest.raises(StateError, match=r"interrupted.*reset\(\)"):
        witness.model(input_ids=torch.tensor([[5]]), **passing(past))
    past.reset()
    expected = generate(witness.model, IDS, cache())
    assert same(generate(witness.model, IDS, past), expected)
    witness.layers_run = 0


def test_an_interrupted_vision_tower_leaves_a_usable_cache() -> None:
    model, inputs = omni()
    settings = config(global_rule="below 20")
    expected = run(model, inputs, FastAVCache(settings))
    past = FastAVCache(settings)
    tower = next(module for name, module in model.named_modules() if name.endswith("audio_tower"))

    def stop(*_: Any) -> None:
        raise RuntimeError("out of memory")

    handle = tower.register_forward_pre_hook(stop)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(model, inputs, past)
    handle.remove()
    assert same(run(model, inputs, past), expected)
