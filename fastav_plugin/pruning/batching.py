"""Requests that were prefilled apart, joined into one batch for decoding, and taken out again.

Logical columns are counted from the right: the longest request keeps its own, the others move by
what they are shorter, as in a prompt batch that is padded on the left. Each layer is as wide as
its longest row, whatever the other layers are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastav_plugin.errors import ConfigError, StateError
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.pruning.request import Joined, State
from fastav_plugin.tokens import TokenMap


def join_states(states: Sequence[State], joined: State) -> None:
    """Move the rows of several requests into one state; theirs are empty afterwards.

    They are emptied layer by layer, so that no more than one layer is held twice.

    Args:
        states: of the requests, each with any number of batch rows.
        joined: a fresh state with their config.

    Raises:
        StateError: one was not prefilled, or is of another model.
        ConfigError: they prune differently.
    """
    _check(states)
    length = max(state.length for state in states)
    shifts = [length - state.length for state in states]
    joined.config, joined.hooks = states[0].config, states[0].hooks
    joined.binding = states[0].binding
    joined.token_map = TokenMap.batch([_whole_map(state) for state in states])
    joined.joined = _ends(states, shifts)
    joined.shift = _stacked([state.shift for state in states], states)
    joined.rope_deltas = _stacked([state.rope_deltas for state in states], states)
    shared: dict[tuple[int, ...], tuple[list[Tensor | None], Tensor, Tensor | None]] = {}
    for index in range(len(states[0].layers)):
        group = [state.layers[index] for state in states]
        key = tuple(id(layer.head) for layer in group)
        if key not in shared:
            # Holding the heads keeps their ids from being given to other tensors.
            shared[key] = ([layer.head for layer in group], *_columns(group, shifts))
        _, positions, valid = shared[key]
        layer = FastAVLayer(group[0].window)
        keys, values = (
            torch.cat([_padded(getattr(one, name), positions.shape[1]) for one in group])
            for name in ("keys", "values")
        )
        layer.fill(keys, values, length, positions, valid)
        joined.layers.append(layer)
        for one in group:
            one.reset()
    for state in states:
        state.clear()


def keep_rows(state: State, rows: Tensor) -> None:
    """Keep some batch rows, and no column that none of them needs: its memory is given back.

    Args:
        state: of a cache that was prefilled.
        rows: int64 [n], at least one.

    Raises:
        StateError: the cache was not prefilled.
        ConfigError: no row is named.
    """
    if not state.prefilled:
        raise StateError("Only the rows of a FastAVCache that was prefilled can be kept.")
    if rows.numel() == 0:
        raise ConfigError("At least one batch row must be kept. Drop the cache to keep none.")
    assert state.token_map is not None
    before = state.token_map.rows
    padding = _leading(state.token_map.valid[rows.to(state.token_map.valid.device)])
    length = state.length - padding
    shared: dict[int, tuple[Tensor | None, int, Tensor, Tensor | None]] = {}
    for layer in state.layers:
        assert layer.keys is not None and layer.values is not None
        if id(layer.head) not in shared:
            held = layer.positions
            positions = held[rows.to(held.device)]
            unused = _leading(positions >= 0)
            positions = positions[:, unused:]
            real = positions >= 0
            positions = torch.where(real, positions - padding, -1)
            valid = None if bool(real.all()) else real
            shared[id(layer.head)] = (layer.head, unused, positions, valid)
        _, unused, positions, valid = shared[id(layer.head)]
        keys, values = (
            item[:, :, unused:].index_select(0, rows.to(item.device))
            for item in (layer.keys, layer.values)
        )
        layer.fill(keys, values, length, positions, valid)

    def moved(tensor: Tensor) -> Tensor:
        return tensor[rows.to(tensor.device)]

    state.token_map = state.token_map.map_rows(lambda tensor: moved(tensor)[:, padding:])
    if state.given is not None and state.given.rows == before:
        state.given = state.given.map_rows(lambda tensor: moved(tensor)[:, padding:])
    if state.joined is not None:
        state.joined = state.joined.map_rows(moved, padding)
    state.shift = None if state.shift is None else moved(state.shift)
    state.rope_deltas = None if state.rope_deltas is None else moved(state.rope_deltas)


def _check(states: Sequence[State]) -> None:
    if not states:
        raise ConfigError("There is no cache to stack. Give at least one.")
    if len({id(state) for state in states}) < len(states):
        raise ConfigError("One cache was given twice to be stacked.")
    first = states[0]
    for state in states:
        if not state.prefilled or state.binding is None or first.binding is None:
            raise StateError("Only caches that were prefilled can be stacked.")
        if state.binding.parts.head is not first.binding.parts.head:
            raise StateError("Caches of different models cannot be stacked.")
        if state.config != first.config:
            raise ConfigError("Caches with different configs cannot be stacked.")


def _whole_map(state: State) -> TokenMap:
    """The map of all rows brought, those after the prompt as text."""
    assert state.token_map is not None
    return state.token_map.extend(state.length - state.token_map.length)


def _ends(states: Sequence[State], shifts: Sequence[int]) -> Joined:
    """Where each row's prompt ends now, and why it was not cut."""
    ends, codes = [], []
    reasons: list[str | None] = []
    for state, shift in zip(states, shifts, strict=True):
        assert state.token_map is not None
        known = state.joined or Joined.of(state)
        ends.append(known.ends + shift)
        codes.append(known.code + len(reasons))
        reasons += known.reasons
    return Joined(torch.cat(ends), torch.cat(codes), tuple(reasons))


def _stacked(found: Sequence[Tensor | None], states: Sequence[State]) -> Tensor | None:
    """What some requests note per row, 0 for the others; None if none does."""
    like = next((item for item in found if item is not None), None)
    if like is None:
        return None
    pieces = []
    for item, state in zip(found, states, strict=True):
        rows = state.layers[0].batch_size
        pieces.append(like.new_zeros((rows, *like.shape[1:])) if item is None else item)
    return torch.cat([piece.to(like.device) for piece in pieces])


def _columns(group: Sequence[FastAVLayer], shifts: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Positions [B, n] of the joined rows of one layer, and their validity (None: all real)."""
    width = max(layer.rows for layer in group)
    pieces = []
    for layer, shift in zip(group, shifts, strict=True):
        positions = torch.where(layer.positions >= 0, layer.positions + shift, -1)
        pieces.append(torch.nn.functional.pad(positions, (width - layer.rows, 0), value=-1))
    positions = torch.cat([piece.to(pieces[0].device) for piece in pieces])
    level = all(layer.valid is None and layer.rows == width for layer in group)
    return positions, None if level else positions >= 0


def _padded(rows: Tensor, width: int) -> Tensor:
    """[B, G, T, D] with zeros on the left, [B, G, width, D]."""
    return torch.nn.functional.pad(rows, (0, 0, width - rows.shape[2], 0))


def _leading(real: Tensor) -> int:
    """Leading columns of a bool [B, T] that are False in every row."""
    return int((~real.any(dim=0)).long().cumprod(dim=0).sum())
