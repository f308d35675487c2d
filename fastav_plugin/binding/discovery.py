"""The search for the model of a fresh FastAVCache, so that nobody has to call attach().

Only a process-wide hook sees the first call of a model that nobody announced, and it is not given
keywords. So the first of two hooks marks each transformers model it meets, in the very table in
which torch looks up whether a hook wants keywords, under the second one's id; the second then
gets them and binds the model if they hold this cache.
"""

import threading
import weakref
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from fastav_plugin.binding.binding import Binding
from fastav_plugin.binding.checks import refuse_cache_name
from fastav_plugin.binding.model_checks import PARALLEL, refuse_parallel
from fastav_plugin.errors import StateError
from fastav_plugin.pruning.request import request_of
from fastav_plugin.pruning.rope_deltas import remind
from fastav_plugin.upstream.contract import model_class
from fastav_plugin.upstream.generation import generating_model
from fastav_plugin.upstream.torch_internals import forget_keywords, inlined_only, want_keywords


class Discovery:
    """Two process-wide hooks that wait for the model called with one cache.

    They hold the cache weakly and go away when the model is found, when the cache is reset and
    when it dies. Marks stay until then: another thread may be between the two hooks.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = weakref.ref(cache)
        self._marked: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._closed = False
        # Reentrant: a garbage collection inside `_mark` may close a search.
        self._marking = threading.RLock()
        with self._marking:  # another thread may call the first hook before the second is there
            self._first = register_module_forward_pre_hook(self._mark)
            self._second = register_module_forward_pre_hook(self._look)
        weakref.finalize(cache, self.close)

    def close(self) -> None:
        """Remove the hooks and every mark; safe to call twice."""
        with self._marking:
            self._closed = True
            self._first.remove()
            self._second.remove()
            for module in tuple(self._marked):
                forget_keywords(module, self._second.id)
            self._marked.clear()

    # Dynamo traces both hooks with each module around them, as far as to see that most modules
    # cannot hold the cache: a graph would break at every module of other, compiled models.
    @inlined_only
    def _mark(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if _may_hold_it(module):
            self._mark_it(module)

    @inlined_only
    def _look(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _may_hold_it(module):
            return self._look_at_it(module, args, kwargs)
        return None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _mark_it(self, module: nn.Module) -> None:
        with self._marking:
            if not self._closed:
                want_keywords(module, self._second.id)
                self._marked.add(module)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _look_at_it(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._closed:
            return None
        if kwargs is None:
            raise StateError(
                "This version of torch does not hand keywords to process-wide hooks. Call "
                "fastav_plugin.attach(model, config) before generate()."
            )
        cache = self._cache()
        if cache is None or not any(value is cache for value in (*kwargs.values(), *args)):
            return None
        refuse_cache_name(module, kwargs, cache)
        refuse_parallel(module)
        self.close()
        binding = Binding.make(module)
        if module is not binding.model.head:
            return None  # a bound model's text model, whose own hook says what is wrong
        # Bound or not, this call may have begun before another thread bound the model, and then
        # the model's own hooks are not asked in it.
        return binding.enter_from_discovery(module, args, kwargs)


def bind_generating(cache: Any) -> None:
    """Bind the model of the generate() that asks a loaded cache for its length, if one does.

    generate() has the model count positions before its first forward, when a search finds it. The
    Qwen-VL line counts on from what it remembers of its last prompt, which another process filled.
    """
    found = generating_model(cache)
    if found is None:
        return
    head, prompts = found
    refuse_parallel(head)
    bound = Binding.of(head) is not None
    request = request_of(cache)
    assert request is not None
    Binding.make(head).adopt(request)
    if not bound:
        remind(head, request, prompts)


def _may_hold_it(module: nn.Module) -> bool:
    """Whether a module may be called with the cache and has to be looked at."""
    return isinstance(module, (model_class(), *PARALLEL))
