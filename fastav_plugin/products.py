"""Inner products in float32, by the fastest library at hand that gives all of its digits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

Rest = ParamSpec("Rest")

#: Longest sum of products that is taken in one go: the shorter, the smaller its rounding.
DEPTH = 1024


def in_float32(
    function: Callable[Concatenate[Tensor, Rest], Tensor],
) -> Callable[Concatenate[Tensor, Rest], Tensor]:
    """Make a function keep no gradients and all digits, also inside the caller's autocast."""

    @functools.wraps(function)
    def call(first: Tensor, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Tensor:
        device = first.device.type
        casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        if not casts:
            with torch.no_grad():
                return function(first, *args, **kwargs)
        with torch.no_grad(), torch.autocast(device, enabled=False):
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
