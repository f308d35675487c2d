"""Settings of the whole suite, and fixtures that several rooms share."""

import gc
from collections.abc import Iterator

import pytest
import torch

from fastav_plugin import FastAVConfig, detach
from tests.support.small_models import config, global_hooks, prompt, qwen2
from tests.support.witness import Witness

# Two cores are shared by everything that runs: more threads only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nobody_waits() -> None:
    """No cache that an earlier test left to the garbage collector waits for its model any longer.

    It would mark each model that is called, and break graphs at compiled ones.
    """
    if any(global_hooks().values()):
        gc.collect()


@pytest.fixture
def pruning() -> FastAVConfig:
    """For an Omni prompt, where placeholders say what is what."""
    return config(global_rule="below 20", global_layer=2)


@pytest.fixture
def witness() -> Iterator[Witness]:
    """A fresh model; whatever the test does, it must work afterwards."""
    waiting = global_hooks()
    found = Witness(qwen2(), prompt())
    yield found
    found.usable()
    detach(found.model)
    assert global_hooks() == waiting
