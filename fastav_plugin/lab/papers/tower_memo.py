"""The encoders of a model, run once for a prompt that is answered under many settings."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

#: Attributes of a Qwen-Omni model that hold its encoders.
_TOWERS = ("visual", "audio_tower")


@contextmanager
def towers_once(model: nn.Module) -> Iterator[None]:
    """Let the vision and the audio encoder reuse their last output for equal inputs.

    generate() itself is unchanged, and no pruning method touches an encoder.

    Args:
        model: its encoders are called `visual` and `audio_tower`; others are not memoised.
    """
    towers = [
        module
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in _TOWERS and "forward" not in vars(module)
    ]
    for tower in towers:
        vars(tower)["forward"] = _Remembering(tower.forward)
    try:
        yield
    finally:
        for tower in towers:
            del vars(tower)["forward"]


class _Remembering:
    """A function that remembers its last call."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._last: tuple[tuple[Any, ...], dict[str, Any], Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The last result if the arguments are equal, else a new one."""
        if self._last is not None and _equal((args, kwargs), self._last[:2]):
            return copy.copy(self._last[2])
        result = self._function(*args, **kwargs)
        # A copy, because transformers puts other tensors into the output it gets.
        self._last = args, kwargs, copy.copy(result)
        return result


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype
        return alike and one.device == other.device and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
