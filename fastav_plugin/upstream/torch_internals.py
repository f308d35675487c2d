"""Attributes of torch's modules and tensors that begin with an underscore."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from fastav_plugin.upstream.contract import Contracts, code_of, mentions
from fastav_plugin.upstream.releases import missing

_KEYWORDS = "_forward_pre_hooks_with_kwargs"
_REPLICA = "_is_replica"


def want_keywords(module: nn.Module, hook: int) -> None:
    """Have a process-wide forward pre-hook get the keywords of one module's calls.

    torch looks up in a table of the module which of its hooks get them, process-wide ones too.
    `hook` is the `id` of the hook's handle.
    """
    if _KEYWORDS not in module.__dict__:
        raise missing(_TABLE, "torch")
    module.__dict__[_KEYWORDS][hook] = True


def forget_keywords(module: nn.Module, hook: int) -> None:
    """Undo `want_keywords`; safe to call twice."""
    module.__dict__.get(_KEYWORDS, {}).pop(hook, None)


def is_replica(module: object) -> bool:
    """Whether a module is one of DataParallel's copies of a model."""
    return bool(getattr(module, _REPLICA, False))


def version(tensor: Tensor) -> int:
    """A number that grows with each change in place; 0 where torch does not count them."""
    return 0 if tensor.is_inference() else tensor._version


def with_child(module: nn.Module, name: str, child: nn.Module) -> nn.Module:
    """A shallow copy of a module with another child."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, name: child}
    return twin


_TABLE = f"the table `{_KEYWORDS}` of nn.Module"

CONTRACTS: Contracts = {
    _TABLE: lambda: _KEYWORDS in nn.Module().__dict__,
    f"the mark `{_REPLICA}` of nn.Module._replicate_for_data_parallel": lambda: mentions(
        code_of(nn.Module._replicate_for_data_parallel), _REPLICA
    ),
    "the attribute `_version` of Tensor": lambda: hasattr(Tensor, "_version"),
    "the table `_modules` of nn.Module": lambda: "_modules" in nn.Module().__dict__,
}
