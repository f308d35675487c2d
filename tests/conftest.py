"""Settings of the whole suite, and fixtures that several rooms share."""

from collections.abc import Iterator

import pytest
import torch

from fastav_plugin import FastAVConfig, detach
from tests.support.small_models import config, global_hooks, prompt, qwen2
from tests.support.witness import Witness

# Two cores are shared by everything that runs: more threads only wait for each other.
torch.set_num_threads(1)


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
    # Fewer where a cache of an earlier test was collected meanwhile.
    assert all(count <= waiting[name] for name, count in global_hooks().items())
