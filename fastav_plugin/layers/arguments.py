"""The arguments of a decoder layer, cut to the survivors.

Every function takes `index`, the survivors: int64 [B, K] into the tokens that the text model was
called with.
"""

from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import UnsupportedError


def gather(tensor: Tensor, index: Tensor, dim: int) -> Tensor:
    """Entries along one dimension, by an index [B, K] per batch row, on any device.

    The tensor is batch first, of size B or 1 (shared by all batch rows).
    """
    index = index.to(tensor.device)
    if index.shape[0] == 1 and tensor.shape[0] == 1:
        return tensor.index_select(dim, index[0])
    batch = torch.arange(index.shape[0], device=tensor.device)
    moved = tensor.movedim(dim, 1).expand(index.shape[0], *tensor.movedim(dim, 1).shape[1:])
    return moved[batch[:, None], index].movedim(1, dim)


def cut_rotary(embeddings: Any, index: Tensor) -> Any:
    """Rotary embeddings of the survivors: tensors [B or 1, T, D] in any nesting, cut along T."""
    if isinstance(embeddings, Tensor):
        if embeddings.dim() < 3:
            raise UnsupportedError(
                f"Cannot cut position embeddings of shape {tuple(embeddings.shape)}; "
                "expected [B, T, D]."
            )
        return gather(embeddings, index, embeddings.dim() - 2)
    if isinstance(embeddings, (tuple, list)):
        return type(embeddings)(cut_rotary(item, index) for item in embeddings)
    if isinstance(embeddings, dict):
        return {name: cut_rotary(item, index) for name, item in embeddings.items()}
    if embeddings is None:
        return None
    raise UnsupportedError(f"Cannot cut position embeddings of type {type(embeddings).__name__}.")


def cut_positions(positions: Tensor | None, index: Tensor) -> Tensor | None:
    """Position ids of the survivors: [B or 1, T], or [n, B or 1, T] with n parts per position.

    Not for flash attention, which reads gaps in them as packed sequences: it gets None.
    """
    if positions is None or positions.dim() == 2:
        return cut_tokens(positions, index)
    return torch.stack([gather(part, index, 1) for part in positions])


def cut_tokens(values: Tensor | None, index: Tensor) -> Tensor | None:
    """Anything with one entry per token, [B or 1, T, ...], or None."""
    return None if values is None else gather(values, index, 1)
