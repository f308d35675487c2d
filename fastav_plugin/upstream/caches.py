"""The caches that generate() makes, and what tells them from a caller's."""

from functools import partial
from typing import Any

from transformers import cache_utils
from transformers.cache_utils import Cache, DynamicCache

from fastav_plugin.upstream.contract import Contracts, code_of, generation_mixin, mentions

_MARK = "_is_user_defined"

#: Base class of the layers of caches; without it the package is imported all the same, and binds
#: no model.
LAYER: Any = getattr(cache_utils, "CacheLayerMixin", object)

#: What transformers calls on caches, and on their layers; ours answer all of it in their own way.
_OF_CACHES = (
    "activate_past_recording batch_repeat_interleave batch_select_indices batch_size crop "
    "early_initialization get_mask_sizes get_max_length get_query_offset get_seq_length "
    "is_compileable is_croppable is_initialized is_sliding offload reorder_cache reset update"
).split()
_OF_LAYERS = "get_mask_sizes get_max_length get_seq_length lazy_initialization update".split()


class GivenCache(Cache):
    """A cache that notices when a caller gives it to generate(), which marks it then.

    Once per generate(), before the first forward.
    """

    _given = False

    def on_given(self) -> None:
        """Called when generate() is given this cache; what it raises, generate() raises."""

    def _is_marked(self) -> bool:
        return self._given

    def _mark(self, given: bool) -> None:
        self._given = given
        self.on_given()


setattr(GivenCache, _MARK, property(GivenCache._is_marked, GivenCache._mark))


def made_by_caller(cache: Any) -> bool:
    """Whether the caller of generate() passed this cache; generate() marks those."""
    return bool(getattr(cache, _MARK, False))


def offloads(cache: Any) -> bool:
    """Whether a cache moves its layers to another device between forwards."""
    return bool(cache.offloading)


def is_plain(cache: Any) -> bool:
    """Whether it is the cache that generate() makes unless asked for another."""
    return type(cache) is DynamicCache and not offloads(cache)


def _prepares_with(name: str) -> bool:
    return mentions(code_of(generation_mixin()._prepare_cache_for_generation), name)


CONTRACTS: Contracts = {
    "the class CacheLayerMixin of cache_utils": lambda: LAYER is not object,
    f"CacheLayerMixin without abstract methods besides {', '.join(_OF_LAYERS)}": lambda: (
        set(LAYER.__abstractmethods__) <= set(_OF_LAYERS)
    ),
    **{f"the attribute `{name}` of Cache": partial(hasattr, Cache, name) for name in _OF_CACHES},
    **{
        f"the method `{name}` of CacheLayerMixin": partial(hasattr, LAYER, name)
        for name in _OF_LAYERS
    },
    f"the attribute `{_MARK}`, set in GenerationMixin._prepare_cache_for_generation": (
        partial(_prepares_with, _MARK)
    ),
    "the attribute `offloading` of Cache": lambda: hasattr(DynamicCache(), "offloading"),
    "DynamicCache, made in GenerationMixin._prepare_cache_for_generation": (
        partial(_prepares_with, DynamicCache.__name__)
    ),
}
