"""Several devices in one process without an accelerator: tensors that say where they are.

A Placed tensor holds a CPU tensor and calls its device by another name. Every operator runs on the
CPU and, as on real devices, refuses operands of different devices; indices may come from the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.support.cache_names import CACHE
from tests.support.oracle import decoder_layers

#: Device type that this build of torch names but does not have.
KIND = "lazy"
CPU = torch.device("cpu")
FIRST, SECOND = torch.device(KIND, 0), torch.device(KIND, 1)


class Placed(Tensor):
    """A CPU tensor under the name of another device."""

    on_cpu: Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> Placed:
        made: Placed = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), dtype=inner.dtype, device=device
        )
        made.on_cpu = inner
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Placed({self.on_cpu}, {self.device})"

    def tolist(self) -> Any:
        return self.on_cpu.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert a tensor on {self.device} to numpy.")

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _dispatch(func, args, kwargs or {})


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


@contextmanager
def places() -> Iterator[None]:
    """While inside, tensors can also be made and moved by naming a device."""
    before = torch._C._only_lift_cpu_tensors()
    # torch.tensor(...) then makes a CPU tensor first and moves it, which operators can see.
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Mode():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def _dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    asked = kwargs.get("device")
    asked = None if asked is None else torch.device(asked)
    # Numbers may come from the CPU, and so may indices.
    indexes = func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
    free = {id(t) for t in tensors if t.device.type == "cpu" and (t.dim() == 0 or indexes)}
    found = {t.device for t in tensors if id(t) not in free}
    copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    if len(found) > 1 and not copies:
        raise RuntimeError(f"{func}: operands on different devices {sorted(map(str, found))}.")
    home = asked if asked is not None else next(iter(found or {t.device for t in tensors}), CPU)
    if func is torch.ops.aten.copy_.default:
        home = args[0].device
    inner = {id(t.on_cpu): t for t in tensors if isinstance(t, Placed)}
    if asked is not None:
        kwargs = kwargs | {"device": CPU}
    plain_args, plain_kwargs = tree_map(_plain, (args, kwargs))
    result = func(*plain_args, **plain_kwargs)

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor) or isinstance(value, Placed) or home.type != KIND:
            return value
        # An operator in place gives back the tensor it was given.
        return inner.get(id(value)) if id(value) in inner else Placed(value, home)

    return tree_map(wrap, result)


def _plain(value: Any) -> Any:
    return value.on_cpu if isinstance(value, Placed) else value


def place(value: Any, device: torch.device) -> Any:
    """Tensors in any nesting, copied to a device."""
    if isinstance(value, Tensor):
        return Placed(value.on_cpu.clone() if isinstance(value, Placed) else value.clone(), device)
    if isinstance(value, (list, tuple)):
        return type(value)(place(item, device) for item in value)
    if isinstance(value, dict):
        return {name: place(item, device) for name, item in value.items()}
    return value


@contextmanager
def on_two_devices(model: nn.Module, since: int, *, back: bool = False) -> Iterator[None]:
    """While inside, decoder layers from `since` on are on the second device, the rest on the first.

    accelerate's own hooks move what a module is called with, inside the module's forward: hooks
    on the module still see inputs where the module before left them. With `back`, each layer's
    output returns to where its input came from (`io_same_device`).
    """
    layers = decoder_layers(model)
    upper = {module for layer in layers[since:] for module in layer.modules()}
    for module in model.modules():
        home = SECOND if module in upper else FIRST
        for table in (module._parameters, module._buffers):
            for name, value in table.items():
                if value is not None and not isinstance(value, Placed):
                    table[name] = _moved(value, home)
    with torch.no_grad(), places():
        for layer in layers:
            _align(layer, SECOND if layer in upper else FIRST, back)
        decoder: Any = next(m for m in model.modules() if getattr(m, "layers", None) is layers)
        _align(decoder.norm, FIRST)
        yield


def _moved(value: Tensor, home: torch.device) -> Any:
    placed = Placed(value.detach(), home)
    return nn.Parameter(placed, False) if isinstance(value, nn.Parameter) else placed


def _align(module: nn.Module, home: torch.device, back: bool = False) -> None:
    hook = AlignDevicesHook(execution_device=home, io_same_device=back, skip_keys=CACHE)
    add_hook_to_module(module, hook)
