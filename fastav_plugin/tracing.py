"""How our hooks meet torch.compile: part of a larger graph, never a graph of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch._dynamo.eval_frame import skip_code

_Hook = TypeVar("_Hook", bound=Callable[..., Any])


def inlined_only(function: _Hook) -> _Hook:
    """Let dynamo trace a hook together with the module around it, but not by itself.

    Where only decoder layers are compiled, their hooks run before the compiled frames. Compiled as
    a frame of its own, a hook would be compiled again for every layer, up to dynamo's limit.
    """
    by_itself: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]

    def hook(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        return by_itself(*args, **kwargs)

    skip_code(hook.__code__)
    return functools.update_wrapper(hook, function)  # type: ignore[return-value]
