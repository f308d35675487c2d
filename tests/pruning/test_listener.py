"""A listener is told what its own request's pruner does, and of no other."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fastav_plugin import detach
from tests.support.small_models import cache, generate, prompt, qwen2, same


class Recorder:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.parts: Counter[str] = Counter()
        self.open: list[str] = []

    @contextmanager
    def during(self, part: str) -> Iterator[None]:
        self.parts[part] += 1
        self.open.append(part)
        yield
        assert self.open.pop() == part


def test_parts_are_announced_and_change_nothing() -> None:
    model, recorder = qwen2(), Recorder()
    past, other = cache(), cache()
    past.fastav_request.listener = recorder
    expected = generate(model, prompt(), other)
    assert not recorder.parts
    assert same(generate(model, prompt(), past), expected)
    # The global cut on entering layer 2, the fine cut on entering layer 3 by the scores of layer 2.
    assert (recorder.parts["selection"], recorder.parts["scoring"]) == (2, 1)
    assert recorder.parts["gathering"] >= 4 and not recorder.open
    assert torch.equal(past.layers[-1].positions, other.layers[-1].positions)
    detach(model)
