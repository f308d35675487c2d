"""The caches that generate() makes, and how they are told from those of a caller."""

from __future__ import annotations

from typing import Any

from transformers.cache_utils import DynamicCache

from fastav_plugin.upstream.classes import generation_mixin
from fastav_plugin.upstream.contract import Contract, code_of, mentions

_MARK = "_is_user_defined"


def made_by_caller(cache: Any) -> bool:
    """Whether the caller of generate() passed this cache; generate() marks those."""
    return bool(getattr(cache, _MARK, False))


def offloads(cache: Any) -> bool:
    """Whether a cache moves its layers to another device between forwards."""
    return bool(cache.offloading)


def is_plain(cache: Any) -> bool:
    """Whether it is the cache that generate() makes unless told otherwise."""
    return type(cache) is DynamicCache and not offloads(cache)


CONTRACTS = (
    Contract(
        f"the attribute `{_MARK}`, set in GenerationMixin._prepare_cache_for_generation",
        lambda: mentions(code_of(generation_mixin()._prepare_cache_for_generation), _MARK),
    ),
    Contract("the attribute `offloading` of Cache", lambda: hasattr(DynamicCache(), "offloading")),
    Contract(
        "DynamicCache, made in GenerationMixin._prepare_cache_for_generation",
        lambda: mentions(
            code_of(generation_mixin()._prepare_cache_for_generation), DynamicCache.__name__
        ),
    ),
)
