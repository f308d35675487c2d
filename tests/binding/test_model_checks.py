"""Settings of generate() that leave nothing to prune are refused; the model works afterwards."""

from collections.abc import Callable
from typing import Any

import pytest
from transformers import GenerationConfig

from fastav_plugin import (
    FastAVCache,
    UnsupportedError,
    attach,
    detach,
)
from fastav_plugin.upstream.arguments import cache_in
from tests.support.small_models import cache, config, generate, prompt
from tests.support.witness import Witness

IDS = prompt()


@pytest.mark.parametrize("where", ["keyword", "None", "config", "second argument", "model"])
def test_no_cache_on_an_attached_model(witness: Witness, where: str) -> None:
    """However generate is told to use no cache, it does not run dense in silence."""
    model = witness.model
    new_config: Any = GenerationConfig
    settings = new_config(max_new_tokens=3, use_cache=False)
    calls: dict[str, Callable[[], Any]] = {
        "keyword": lambda: generate(model, IDS, use_cache=False),
        "None": lambda: generate(model, IDS, use_cache=None),
        "config": lambda: model.generate(IDS, generation_config=settings),
        "second argument": lambda: model.generate(IDS, settings),
        "model": lambda: model.generate(IDS, new_config(max_new_tokens=3)),
    }
    attach(model, config())
    model.generation_config.use_cache = False if where == "model" else None
    with pytest.raises(UnsupportedError, match="use_cache"):
        calls[where]()
    assert isinstance(cache_in(generate(model, IDS, use_cache=True)), FastAVCache)
    model.generation_config.use_cache = None
    detach(model)
    witness.layers_run = 0


def test_a_cache_that_generate_is_told_nothing_about(witness: Witness) -> None:
    """With use_cache=None generate makes a cache and still brings the whole prompt each step."""
    with pytest.raises(UnsupportedError, match="use_cache=None"):
        generate(witness.model, IDS, cache(), use_cache=None)


def test_continuous_batching_on_an_attached_model(witness: Witness) -> None:
    attach(witness.model, config())
    with pytest.raises(UnsupportedError, match="cache_implementation='paged'"):
        generate(witness.model, IDS, cache_implementation="paged")
    detach(witness.model)
