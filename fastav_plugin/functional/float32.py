"""Inner products in float32, by the fastest available library that gives all of its digits."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Concatenate, ParamSpec

import torch
from torch import Tensor

Rest = ParamSpec("Rest")

#: Longest sum of products that is taken in one go: the shorter, the smaller its rounding.
DEPTH = 1024

#: Whether TF32 is allowed is said once for the process: one thread at a time says otherwise.
_ALLOWING = threading.RLock()


@contextmanager
def _no_tf32(device: str) -> Iterator[None]:
    """Let a GPU's float32 products keep their 24 bits; TF32 has 11, and is asked for by servers.

    It is switched off by the switch that it was switched on with: torch refuses to read one of its
    two kinds of switches while the other says otherwise.
    """
    if device != "cuda":
        yield
        return
    matmul: Any = torch.backends.cuda.matmul
    with _ALLOWING, ExitStack() as undo:
        try:
            before = torch.get_float32_matmul_precision()
        except RuntimeError:
            undo.callback(setattr, matmul, "fp32_precision", matmul.fp32_precision)
            matmul.fp32_precision = "ieee"
        else:
            if before != "highest":
                # It moves oneDNN's as well, which torch 2.7 does not have.
                beside: Any = getattr(torch.backends.mkldnn, "matmul", None)
                if (precision := getattr(beside, "fp32_precision", None)) is not None:
                    undo.callback(setattr, beside, "fp32_precision", precision)
                undo.callback(torch.set_float32_matmul_precision, before)
                torch.set_float32_matmul_precision("highest")
        yield


def in_float32(
    function: Callable[Concatenate[Tensor, Rest], Tensor],
) -> Callable[Concatenate[Tensor, Rest], Tensor]:
    """Make a function keep no gradients and all digits.

    Also inside the caller's autocast, and where TF32 is allowed for the process's matrix products.
    """

    @functools.wraps(function)
    def call(first: Tensor, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Tensor:
        device = first.device.type
        casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        autocast = torch.autocast(device, enabled=False) if casts else nullcontext()
        with torch.no_grad(), autocast, _no_tf32(device):
            return function(first, *args, **kwargs)

    return call


def pack(rows: Tensor) -> tuple[Tensor, ...]:
    """Rows as `inner_products` reads them: pieces of at most `DEPTH` columns.

    On a CPU each is a copy in the layout of oneDNN, which torch brings along. torch itself
    multiplies float32 matrices by a BLAS that on some processors leaves half of each vector
    register unused, and offers no other way to choose.

    Args:
        rows: float32 [n, d].
    """
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    pieces = torch.split(rows, DEPTH, dim=1)
    if not there or rows.device.type != "cpu" or rows.numel() == 0:
        return pieces
    return tuple(piece.to_mkldnn() for piece in pieces)


def inner_products(rows: tuple[Tensor, ...], columns: tuple[Tensor, ...]) -> Tensor:
    """`rows @ columns.T` of packed rows, dense float32 [n, m]."""
    products = torch.nn.functional.linear(rows[0], columns[0])
    for left, right in zip(rows[1:], columns[1:], strict=True):
        products.add_(torch.nn.functional.linear(left, right))
    return products.to_dense() if products.is_mkldnn else products
