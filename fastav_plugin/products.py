"""Inner products in float32, by the fastest library at hand that gives all of its digits."""

from __future__ import annotations

import torch
from torch import Tensor

#: Longest sum of products that is taken in one go: the shorter, the smaller its rounding.
DEPTH = 1024


def pack(rows: Tensor) -> tuple[Tensor, ...]:
    """Rows as `inner_products` reads them: pieces of at most `DEPTH` columns.

    On a CPU each is a copy in the layout of oneDNN, which torch brings along. torch itself
    multiplies float32 matrices by a BLAS that on some processors leaves half of each vector
    register unused, and offers no other way to choose.

    Args:
        rows: float32 [n, d].
    """
    fast = rows.device.type == "cpu" and torch.backends.mkldnn.is_available() and rows.numel() > 0
    pieces = rows.split(DEPTH, dim=1)
    return tuple(piece.to_mkldnn() for piece in pieces) if fast else pieces


def inner_products(rows: tuple[Tensor, ...], columns: tuple[Tensor, ...]) -> Tensor:
    """`rows @ columns.T` of packed rows, dense float32 [n, m]."""
    products = torch.nn.functional.linear(rows[0], columns[0])
    for left, right in zip(rows[1:], columns[1:], strict=True):
        products.add_(torch.nn.functional.linear(left, right))
    return products.to_dense() if products.is_mkldnn else products
