"""Cosines between candidates in float32: the products that every selector by features needs."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fastav_plugin.functional.float32 import inner_products, pack

#: Largest candidate count whose cosines are held as one matrix (576 MiB in float32).
MATRIX_LIMIT = 12288

#: Distances and differences of cosines up to this are the rounding of float32 and count as none.
ROUNDING = 2e-6

#: Candidates of one product; two tiles and what comes of them stay in a CPU's cache.
TILE = 1024


def unit_vectors(features: Tensor) -> Tensor:
    """Vectors of length one in float32, in the memory of `features` if it can; zeros stay zeros."""
    upcast = features.float()
    norms: Tensor = torch.linalg.vector_norm(upcast, dim=-1, keepdim=True)
    return upcast.div_(norms.masked_fill_(norms == 0, 1))


def min_max(values: Tensor) -> Tensor:
    """Sums of cosines scaled to [0, 1] over the last axis, zeros where all are the same: float32.

    They are the same where they differ by rounding alone, which scaled would outweigh other cues.
    """
    values = values.float()
    if values.shape[-1] == 0:
        return values
    low = values.amin(dim=-1, keepdim=True)
    span = values.amax(dim=-1, keepdim=True) - low
    return torch.where(span <= ROUNDING, 0.0, (values - low) / span)


def tile_pairs(tiles: list[tuple[Tensor, ...]]) -> Iterator[tuple[slice, slice, Tensor]]:
    """Products of all pairs of tiles of packed rows, each pair once: rows, columns, products."""
    starts = [0]
    for tile in tiles:
        starts.append(starts[-1] + tile[0].shape[0])
    for i, rows in enumerate(tiles):
        for j, columns in enumerate(tiles[: i + 1]):
            places = slice(*starts[i : i + 2]), slice(*starts[j : j + 2])
            yield *places, inner_products(rows, columns)


def write_symmetric(matrix: Tensor, pairs: Iterator[tuple[slice, slice, Tensor]]) -> Tensor:
    """Fill a symmetric matrix [M, M] from what `tile_pairs` yields."""
    for rows, columns, values in pairs:
        matrix[rows, columns] = values
        if rows != columns:
            # Contiguous first: written across, each line of the matrix would be a miss.
            matrix[columns, rows] = values.T.contiguous()
    return matrix


class Cosines:
    """Cosines between M candidates, 0 for a vector of zeros and for one that is not finite.

    They are held as one matrix, each product made once; above `MATRIX_LIMIT` candidates only the
    vectors are held and rows are made when they are asked for.

    Args:
        features: [M, d] of any floating dtype.

    Attributes:
        total: M.
        present: float32 [M], 1, or 0 for a vector of zeros: the cosine of each to itself.
    """

    def __init__(self, features: Tensor) -> None:
        self.total = len(features)
        # A NaN would make every choice a pick of the first, again and again.
        units = unit_vectors(features.detach().to(torch.float32, copy=True)).nan_to_num_(nan=0.0)
        self.present = units.any(dim=1).float()
        self._matrix: Tensor | None = None
        self._units = units
        if self.total > MATRIX_LIMIT:
            self._tiles = [pack(part) for part in torch.split(units, TILE)]
        elif units.device.type == "cpu":
            tiles = [pack(part) for part in torch.split(units, TILE)]
            matrix = units.new_empty((self.total, self.total))
            self._matrix = write_symmetric(matrix, tile_pairs(tiles))
        else:
            self._matrix = units @ units.T
        if self._matrix is not None:
            self._matrix.diagonal().copy_(self.present)

    def rows(self, index: Tensor) -> Tensor:
        """Float32 [n, M], the cosines of some candidates (int64 [n]) to all."""
        if self._matrix is not None:
            return self._matrix.index_select(0, index)
        if len(index) == 0:
            return self.present.new_empty((0, self.total))
        chosen = pack(self._units[index])
        found = torch.cat([inner_products(chosen, tile) for tile in self._tiles], dim=1)
        return found.scatter_(1, index[:, None], self.present[index, None])

    def blocks(self, size: int = TILE) -> Iterator[tuple[slice, Tensor]]:
        """All rows in order, `size` at a time; what is yielded must not be written to."""
        for start in range(0, self.total, size):
            places = slice(start, min(start + size, self.total))
            if self._matrix is not None:
                yield places, self._matrix[places]
            else:
                index = torch.arange(places.start, places.stop, device=self.present.device)
                yield places, self.rows(index)

    def between(self, index: Tensor) -> Tensor:
        """Float32 [n, n], the cosines among some candidates."""
        if self._matrix is not None:
            return self._matrix.index_select(0, index).index_select(1, index)
        chosen = pack(self._units[index])
        found = inner_products(chosen, chosen)
        found.diagonal().copy_(self.present[index])
        return found
