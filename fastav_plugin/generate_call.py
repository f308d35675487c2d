"""What the generate() call around a prefill knows: the only file that looks at its variables.

transformers tells a model neither that its prompt comes in chunks nor, where the model has no
`logits_to_keep`, how many drafted tokens follow the prompt. Both decide which rows may be cut, so
they are read from generate's own frames, once per prefill.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from transformers.generation.utils import GenerationMixin


@dataclass(frozen=True)
class GenerateCall:
    """The generate() call a forward was made by.

    Attributes:
        prefill_chunk_size: rows per chunk, or None for an undivided prefill.
        drafted: candidate tokens that assisted decoding or prompt lookup appended.
        assisted: whether drafts may come, in this forward or a later one.
        expansion: batch rows made of each prompt, for beams or several returned sequences.
        inputs: the keywords it was given; media are no longer among those of the model's call.
    """

    prefill_chunk_size: int | None = None
    drafted: int = 0
    assisted: bool = False
    expansion: int = 1
    inputs: Mapping[str, Any] = field(default_factory=dict)


def find_generate_call(*caches: Any) -> GenerateCall | None:
    """The innermost generate() that decodes with one of the given caches.

    Returns:
        None for a direct call of the model, also for one made from inside another generate().
    """
    prefill = GenerationMixin._prefill.__code__
    assisted = GenerationMixin._assisted_decoding.__code__
    # The outermost one is what a loop given as `custom_generate` has around it.
    outermost = inspect.unwrap(GenerationMixin.generate).__code__
    loops = (prefill, assisted, outermost)
    for frame in _frames():
        if frame.f_code not in loops:
            continue
        variables = frame.f_locals
        own = (variables.get("model_kwargs") or {}).get("past_key_values")
        if own is None or not any(own is cache for cache in caches):
            continue
        config = variables.get("generation_config")
        drafting = frame.f_code is assisted
        drafted = variables.get("candidate_length", 0) if drafting else 0
        copies = [getattr(config, name, 1) or 1 for name in ("num_beams", "num_return_sequences")]
        return GenerateCall(
            getattr(config, "prefill_chunk_size", None),
            int(drafted),
            drafting,
            int(max(copies)),
            find_local(outermost, "kwargs") or {},
        )
    return None


def left_out_cache(model: Any) -> Any:
    """The cache of the innermost generate() of a model, whose forward was called without it."""
    mixin = GenerationMixin
    methods = (mixin._prefill, mixin._sample, mixin._beam_search, mixin._assisted_decoding)
    loops = {method.__code__ for method in methods}
    for frame in _frames():
        if frame.f_code in loops and frame.f_locals.get("self") is model:
            return (frame.f_locals.get("model_kwargs") or {}).get("past_key_values")
    return None


def inside_generate() -> bool:
    """Whether any generate() is running here that was not compiled."""
    outermost = inspect.unwrap(GenerationMixin.generate).__code__
    return any(frame.f_code is outermost for frame in _frames())


def find_local(code: CodeType, name: str) -> Any:
    """A local variable of the innermost running call of `code`; None if there is none."""
    for frame in _frames():
        if frame.f_code is code:
            return frame.f_locals.get(name)
    return None


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back
