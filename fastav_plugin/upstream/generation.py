"""What the generate() call around a prefill knows: the only file that looks at its variables.

A model does not see that its prompt comes in chunks nor, where the model has no
`logits_to_keep`, how many drafted tokens follow the prompt. Both decide which tokens may be cut,
so they are read from generate's own frames, once per prefill.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FrameType
from typing import Any

from torch import Tensor

from fastav_plugin.upstream.arguments import cache_of
from fastav_plugin.upstream.contract import (
    Contracts,
    attribute,
    code_of,
    generation_mixin,
    has_variable,
)
from fastav_plugin.upstream.releases import missing

#: Methods of GenerationMixin that call the model, below the generate() that calls them.
_LOOPS = ("_prefill", "_sample", "_beam_search", "_assisted_decoding")

#: Settings of a generate() that decide what may be cut.
_CHUNKS = "prefill_chunk_size"
_COPIES = ("num_beams", "num_return_sequences")


@dataclass(frozen=True)
class GenerateCall:
    """The generate() call a forward was made by.

    Attributes:
        prefill_chunk_size: tokens per chunk, or None for an undivided prefill.
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

    None for a direct call of the model, also for one made from inside another generate().
    """
    prefill, assisted = _code("_prefill"), _code("_assisted_decoding")
    # The outermost one is what a loop given as `custom_generate` has around it.
    outermost = _code("generate")
    for frame in _frames():
        if frame.f_code not in (prefill, assisted, outermost):
            continue
        own = _cache_in(frame)
        if own is None or not any(own is cache for cache in caches):
            continue
        config = _variable(frame, "generation_config")
        drafting = frame.f_code is assisted
        copies = max(attribute(config, name) or 1 for name in _COPIES)
        around = next((outer for outer in _frames() if outer.f_code is outermost), None)
        return GenerateCall(
            attribute(config, _CHUNKS),
            int(_variable(frame, "candidate_length")) if drafting else 0,
            drafting,
            int(copies),
            {} if around is None else _variable(around, "kwargs"),
        )
    return None


def generating_model(cache: Any) -> tuple[Any, int] | None:
    """The model whose generate() was given a cache and is running here, and how many prompts."""
    outermost = _code("generate")
    for frame in _frames():
        if frame.f_code is outermost and _cache_in(frame) is cache:
            return _variable(frame, "self"), int(_variable(frame, "inputs_tensor").shape[0])
    return None


def prompt_given_with(cache: Any) -> tuple[Tensor, int] | None:
    """The ids of the generate() here that was given a cache, and the width of its attention mask.

    Ids are int64 [prompts, T]. None where it got embeddings, or none is running.
    """
    outermost = _code("generate")
    for frame in _frames():
        if frame.f_code is outermost and _cache_in(frame) is cache:
            ids = _variable(frame, "inputs_tensor")
            if ids.dim() != 2 or ids.is_floating_point():
                return None
            # As given: generate() lets go of a mask that hides nothing.
            mask = _variable(frame, "kwargs").get("attention_mask")
            return ids, ids.shape[1] if mask is None else mask.shape[1]
    return None


def left_out_cache(model: Any) -> Any:
    """The cache of the innermost generate() of a model, whose forward was called without it."""
    loops = {_code(name) for name in _LOOPS}
    for frame in _frames():
        if frame.f_code in loops and frame.f_locals.get("self") is model:
            return _cache_in(frame)
    return None


def inside_generate() -> bool:
    """Whether any generate() is running here that was not compiled."""
    outermost = _code("generate")
    return any(frame.f_code is outermost for frame in _frames())


def will_speak(*model_classes: Any) -> bool:
    """Whether a generate() of one of these Omni models runs here and makes speech, too."""
    codes = [code_of(model_class.generate) for model_class in model_classes]
    speaking = (_variable(f, "generate_audio") for f in _frames() if f.f_code in codes)
    return bool(next(speaking, False))


def _code(name: str) -> CodeType:
    return code_of(attribute(generation_mixin(), name, _method(name)))


def _cache_in(frame: FrameType) -> Any:
    """The cache among generate's `model_kwargs`; None before it has made them."""
    if not has_variable(frame.f_code, "model_kwargs"):
        raise missing(_local("model_kwargs", frame.f_code.co_name))
    return cache_of(frame.f_locals.get("model_kwargs") or {})


def _variable(frame: FrameType, name: str) -> Any:
    if name not in frame.f_locals:
        raise missing(_local(name, frame.f_code.co_name))
    return frame.f_locals[name]


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _has_method(name: str) -> bool:
    return hasattr(generation_mixin(), name)


def _has_setting(name: str) -> bool:
    from transformers import GenerationConfig

    return hasattr(GenerationConfig(), name)  # type: ignore[no-untyped-call]


def _method(name: str) -> str:
    return f"the method GenerationMixin.{name}"


def _local(name: str, function: str) -> str:
    return f"the local variable `{name}` of GenerationMixin.{function}"


def _has_local(name: str, function: str) -> bool:
    return has_variable(code_of(getattr(generation_mixin(), function)), name)


_LOCALS = {
    "model_kwargs": (*_LOOPS, "generate"),
    "self": (*_LOOPS, "generate"),
    "inputs_tensor": ("generate",),
    "generation_config": ("_prefill", "_assisted_decoding", "generate"),
    "kwargs": ("generate",),
    "candidate_length": ("_assisted_decoding",),
}

CONTRACTS: Contracts = {
    **{_method(name): partial(_has_method, name) for name in (*_LOOPS, "generate")},
    **{
        _local(name, function): partial(_has_local, name, function)
        for name, functions in _LOCALS.items()
        for function in functions
    },
    **{
        f"the attribute `{name}` of GenerationConfig": partial(_has_setting, name)
        for name in (_CHUNKS, *_COPIES)
    },
}
