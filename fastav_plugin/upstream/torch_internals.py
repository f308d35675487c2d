"""Private names of torch: tables of hooks, and what torch.compile makes of hooks and models."""

import copy
import functools
import importlib
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fastav_plugin.upstream.contract import Contracts, attribute, code_of, mentions
from fastav_plugin.upstream.releases import missing

_Hook = TypeVar("_Hook", bound=Callable[..., Any])

_KEYWORDS = "_forward_pre_hooks_with_kwargs"
_REPLICA = "_is_replica"
_EVAL_FRAME = "torch._dynamo.eval_frame"
_COMPILED_CALL = "_compiled_call_impl"
_COMPILED_FUNCTION = "_torchdynamo_orig_callable"
_COMPILED_MODULE = "_orig_mod"

#: Code of the wrapper that `inlined_only` makes, which all hooks share.
_wrappers: set[CodeType] = set()


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


def inlined_only(function: _Hook) -> _Hook:
    """Let dynamo trace a hook with the module around it, but not as a frame of its own.

    Where only decoder layers are compiled, their hooks run before the compiled frames. Compiled as
    a frame of its own, a hook would be compiled again for every layer, up to dynamo's limit.
    `skip_wrappers` makes it so, before the first model is bound.
    """
    alone: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]

    def hook(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        return alone(*args, **kwargs)

    _wrappers.add(hook.__code__)
    return functools.update_wrapper(hook, function)  # type: ignore[return-value]


def skip_wrappers() -> None:
    """Have dynamo compile neither our hooks nor the wrapper of all forwards as frames of their own.

    From transformers 5.24 on nearly every forward is wrapped by one function, for the cache's old
    name. Dynamo counts graphs by code: those of the head and of each kind of layer of a pruned
    prefill would add up to its limit at the second prompt, and decoding would go on uncompiled.
    """
    skip = attribute(_eval_frame(), "skip_code", _SKIP, "torch")
    # Each time a model is bound, for torch._dynamo.reset() forgets it.
    for code in (*_wrappers, *_wrappers_of_forwards()):
        skip(code)


def _wrappers_of_forwards() -> list[CodeType]:
    """Code of what transformers' decorator for renamed arguments makes of any function."""
    from transformers.utils import deprecation

    decorator: Any = getattr(deprecation, "deprecate_kwarg", None)
    if decorator is None:  # then no forward is wrapped by it
        return []

    def example(new: Any) -> Any:
        return new

    return [decorator("old", version="99.0", new_name="new")(example).__code__]


def is_compiled(module: nn.Module) -> bool:
    """Whether a module, or its forward, was compiled: dynamo skips hooks added afterwards."""
    return (
        getattr(module, _COMPILED_CALL) is not None
        or hasattr(module.__dict__.get("forward"), _COMPILED_FUNCTION)
        or hasattr(module, _COMPILED_MODULE)
    )


def without_compilation(model: Any) -> Any:
    """The module inside what torch.compile(model) returned; any other model itself."""
    return getattr(model, _COMPILED_MODULE, model)


def compiles_nothing() -> bool:
    """Whether torch.compiler.set_stance("force_eager") is in force."""
    return bool(attribute(_eval_frame(), "_stance.stance", _STANCE, "torch") == "force_eager")


def _eval_frame() -> Any:
    return importlib.import_module(_EVAL_FRAME)


_TABLE = f"the table `{_KEYWORDS}` of nn.Module"
_SKIP = f"the function `skip_code` of {_EVAL_FRAME}"
_STANCE = f"the setting `_stance.stance` of {_EVAL_FRAME}"

CONTRACTS: Contracts = {
    _SKIP: lambda: callable(_eval_frame().skip_code),
    _STANCE: lambda: isinstance(_eval_frame()._stance.stance, str),
    f"the attribute `{_COMPILED_CALL}` of nn.Module": lambda: hasattr(nn.Module(), _COMPILED_CALL),
    f"the mark `{_COMPILED_FUNCTION}` of compiled functions": lambda: mentions(
        _eval_frame()._TorchDynamoContext.__call__.__code__, _COMPILED_FUNCTION
    ),
    f"the attribute `{_COMPILED_MODULE}` of compiled models": lambda: (
        _COMPILED_MODULE in _eval_frame().OptimizedModule.__annotations__
        or mentions(_eval_frame().OptimizedModule.__init__.__code__, _COMPILED_MODULE)
    ),
    _TABLE: lambda: _KEYWORDS in nn.Module().__dict__,
    f"the mark `{_REPLICA}` of nn.Module._replicate_for_data_parallel": lambda: mentions(
        code_of(nn.Module._replicate_for_data_parallel), _REPLICA
    ),
    "the attribute `_version` of Tensor": lambda: hasattr(Tensor, "_version"),
    "the table `_modules` of nn.Module": lambda: "_modules" in nn.Module().__dict__,
}
