"""Reading the last query's scores inside attention, without touching the model's config.

Each decoder attention module gets a shallow copy of its config with a name of our own; the
function registered under that name calls the stock one, and shows an observer that comes with
the call the queries and keys. Masks, towers and the model's name checks still see the stock name.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from fastav_plugin.upstream.attention import SCALING, SOFTCAP, function_of, register, renamed_copy

#: Two threads may reach the first scored prefill of one model together.
_RENAMING = threading.Lock()

#: Keyword by which an observer travels: decoder layer -> attention -> attention function.
OBSERVER = "fastav_observer"

PREFIX = "fastav_"
_ORIGINAL = "_fastav_original"


def takes_2d_masks(name: str | None) -> bool:
    """Whether an attention implementation is a flash attention, which gets padding masks."""
    return "flash" in (name or "")


class RenamedAttention:
    """The attention modules of one model, renamed while `wrap` is in force."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules = tuple(modules)
        self._originals: list[Any] = []
        self._base: str | None = None

    def wrap(self, base: str) -> None:
        """Rename all modules for one base implementation; again only if the base changed."""
        if base == self._base:
            return
        with _RENAMING:
            if base != self._base:
                self._unwrap()
                self._wrap(base)

    def _wrap(self, base: str) -> None:
        register(PREFIX + base, _observed(base))
        renamed: Any = None
        for module in self._modules:
            original = module.config
            # Layers share one config, and afterwards its copy.
            if renamed is None or getattr(renamed, _ORIGINAL) is not original:
                renamed = renamed_copy(original, PREFIX + base)
                object.__setattr__(renamed, _ORIGINAL, original)
            self._originals.append(original)
            module.config = renamed
        self._base = base

    def follow(self, base: str) -> None:
        """After the user's `set_attn_implementation`, rename for the new base."""
        if self._base is not None:
            self.wrap(base)

    def unwrap(self) -> None:
        """Give every module its own config back."""
        with _RENAMING:
            self._unwrap()

    def _unwrap(self) -> None:
        for module, original in zip(self._modules, self._originals, strict=False):
            module.config = original
        self._originals = []
        self._base = None


def _observed(base: str) -> Callable[..., Any]:
    """The attention function registered for one base implementation."""

    def fastav_attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any,
        **kwargs: Any,
    ) -> Any:
        observer = kwargs.pop(OBSERVER, None)
        if observer is not None:
            observer.observe(query, key, attention_mask, kwargs.get(SCALING), kwargs.get(SOFTCAP))
        function = function_of(base, module)
        shown = _Shown(module) if takes_2d_masks(base) else module
        return function(shown, query, key, value, attention_mask, **kwargs)

    return fastav_attention


class _Shown:
    """A module as flash attention must see it: with the stock name in its config."""

    def __init__(self, module: nn.Module) -> None:
        original = getattr(module.config, _ORIGINAL)
        self.__dict__.update(module=module, config=original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["module"], name)
