"""Requests that were prefilled apart, stacked into one batch for decoding, and taken out again.

Columns are counted from the right: the longest request keeps its own, the others move by what
they are shorter, as in a prompt batch that is padded on the left. Each layer is as wide as the
batch row of which it holds the most tokens, whatever the other layers are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastav_plugin.errors import ConfigError, StateError
from fastav_plugin.layers.held_tokens import HeldTokens
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.pruning.request import Request, RowFacts


def stack(requests: Sequence[Request], batch: Request) -> None:
    """Move the batch rows of several requests into a fresh one with their config.

    Theirs are emptied layer by layer, so that no more than one layer is held twice.
    """
    _check(requests)
    lengths = [request.seen_tokens for request in requests]
    longest, first = max(lengths), requests[0]
    batch.config, batch.hooks, batch.model = first.config, first.hooks, first.model
    batch.facts = RowFacts.stack([request.facts for request in requests], lengths)
    stacked: dict[tuple[HeldTokens | None, ...], HeldTokens] = {}
    for group in zip(*(request.layers for request in requests), strict=True):
        prompts = tuple(layer.prompt for layer in group)
        if prompts not in stacked:
            stacked[prompts] = _stacked(group, [longest - length for length in lengths])
        width = stacked[prompts].positions.shape[1]
        keys = torch.cat([_padded(layer.keys, width) for layer in group])
        values = torch.cat([_padded(layer.values, width) for layer in group])
        layer = FastAVLayer(group[0].window)
        layer.fill(keys, values, longest, stacked[prompts])
        batch.layers.append(layer)
        for one in group:
            one.reset()
    for request in requests:
        request.clear()


def keep_rows(request: Request, rows: Tensor) -> None:
    """Keep some batch rows, int64 [n], and no column that none of them needs."""
    token_map = request.facts.token_map
    if not request.prefilled or token_map is None:
        raise StateError("Only the rows of a FastAVCache that was prefilled can be kept.")
    if rows.numel() == 0:
        raise ConfigError("At least one batch row must be kept. Drop the cache to keep none.")
    padding = _leading(token_map.valid[rows.to(token_map.valid.device)])
    length = request.seen_tokens - padding
    kept: dict[HeldTokens | None, tuple[int, HeldTokens]] = {}
    for layer in request.layers:
        prompt = layer.prompt
        if prompt not in kept:
            kept[prompt] = _kept(layer.positions, rows, padding)
        unused, held = kept[prompt]
        keys, values = (
            item[:, :, unused:].index_select(0, rows.to(item.device))
            for item in (layer.keys, layer.values)
        )
        layer.fill(keys, values, length, held)
    request.facts = request.facts.select(rows, padding)


def _check(requests: Sequence[Request]) -> None:
    if not requests:
        raise ConfigError("There is no cache to stack. Give at least one.")
    if any(one is other for number, one in enumerate(requests) for other in requests[:number]):
        raise ConfigError("One cache was given twice to be stacked.")
    first = requests[0]
    for request in requests:
        if request.origin is not None:
            raise StateError(
                "A FastAVCache that was loaded can be stacked once its model was called with it."
            )
        if not request.prefilled or request.model is None or first.model is None:
            raise StateError("Only caches that were prefilled can be stacked.")
        if request.model.head is not first.model.head:
            raise StateError("Caches of different models cannot be stacked.")
        if request.config != first.config:
            raise ConfigError("Caches with different configs cannot be stacked.")


def _stacked(group: Sequence[FastAVLayer], shifts: Sequence[int]) -> HeldTokens:
    """What one layer holds of all requests, [B, n], each moved by its shift."""
    width = max(layer.num_tokens for layer in group)
    pieces = []
    for layer, shift in zip(group, shifts, strict=True):
        positions = torch.where(layer.positions >= 0, layer.positions + shift, -1)
        pieces.append(torch.nn.functional.pad(positions, (width - layer.num_tokens, 0), value=-1))
    positions = torch.cat([piece.to(pieces[0].device) for piece in pieces])
    level = all(layer.valid is None and layer.num_tokens == width for layer in group)
    return HeldTokens(positions, None if level else positions >= 0)


def _kept(positions: Tensor, rows: Tensor, padding: int) -> tuple[int, HeldTokens]:
    """How many leading columns no batch row needs, and what is held without them.

    `positions`, int64 [B, n], are of all that a layer holds; `rows`, int64 [m], are kept;
    `padding` is by how many columns the conversation gets shorter.
    """
    positions = positions[rows.to(positions.device)]
    unused = _leading(positions >= 0)
    positions = positions[:, unused:]
    real = positions >= 0
    positions = torch.where(real, positions - padding, -1)
    return unused, HeldTokens(positions, None if bool(real.all()) else real)


def _padded(states: Tensor, width: int) -> Tensor:
    """[B, G, T, D] with zeros on the left, [B, G, width, D]."""
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[2], 0))


def _leading(real: Tensor) -> int:
    """Leading columns of a bool [B, T] that are False in every batch row."""
    return int((~real.any(dim=0)).long().cumprod(dim=0).sum())
