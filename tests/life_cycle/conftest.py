"""Models and settings that the life-cycle tests share."""

from collections.abc import Iterator

import pytest

from fastav_plugin import (
    FastAVConfig,
    detach,
)
from tests.life_cycle.models import (
    config,
    global_hooks,
    prompt,
    qwen2,
)
from tests.life_cycle.witness import Witness


@pytest.fixture
def pruning() -> FastAVConfig:
    """For an Omni prompt, where placeholders say what is what."""
    return config(global_rule="below 20", global_layer=2)


@pytest.fixture
def witness() -> Iterator[Witness]:
    """A fresh model; whatever the test does, it must work afterwards."""
    found = Witness(qwen2(), prompt())
    yield found
    found.usable()
    detach(found.model)
    assert not any(global_hooks().values())
