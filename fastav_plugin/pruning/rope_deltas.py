"""What models with multi-dimensional rotary positions remember, kept per request.

The Qwen-VL line and its kin write on the model by how much the rotary positions of its last
prompt differ from token counts (`rope_deltas`), and read it when a later turn continues. Two
conversations, in turn or in two threads, would each continue with what the other wrote.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.pruning.request import State, state_of
from fastav_plugin.upstream.arguments import OF_TEXT, POSITIONS, cache_of
from fastav_plugin.upstream.positions import METHOD, own_method, path_to_memory, remembering


def positions_method(head: nn.Module) -> MethodType | None:
    """METHOD for one head, which lets generate continue a request from its own memory.

    Returns:
        None if the head has no such memory, or a method of its own already.
    """
    if own_method(head) is None or METHOD in head.__dict__ or path_to_memory(head) is None:
        return None
    return MethodType(_prepare_position_ids_for_generation, head)


# By METHOD's own name, by which a pickled model finds it again on its class.
def _prepare_position_ids_for_generation(
    self: Any, inputs_tensor: Tensor, model_kwargs: dict[str, Any]
) -> Any:
    state = state_of(cache_of(model_kwargs))
    path = path_to_memory(self)
    if state is not None and state.rope_deltas is not None and path is not None:
        # Beams of one prompt stand together and have one value.
        copies = max(1, state.rope_deltas.shape[0] // inputs_tensor.shape[0])
        # Shown to this call alone: another thread may write on the model at any time.
        self = remembering(self, path, state.rope_deltas[::copies])
    return own_method(self)(self, inputs_tensor, model_kwargs)


def remember(state: State, named: dict[str, Any], past: int, rows: int) -> None:
    """Note in a request's state what its rotary positions are ahead of token counts.

    Once, as models do: later turns count on from there.

    Args:
        state: of the request's cache; its prompt is known.
        named: what the text model is called with.
        past: rows brought before.
        rows: rows of this forward.
    """
    positions = named.get(POSITIONS)
    if state.rope_deltas is not None or rows == 1:
        return
    if positions is None or positions.dim() != 3 or state.token_map is None:
        return
    last = past + rows - 1 - _padding(state).to(positions.device)
    state.rope_deltas = (positions[-3:].amax(dim=(0, 2)) - last)[:, None]


def continue_positions(state: State, named: dict[str, Any]) -> None:
    """Give a direct call that brings more text, and no position ids, those of its own request.

    Args:
        state: of the request's cache.
        named: arguments of the head's call; `position_ids` [3, B, rows] are added.
    """
    source = named.get("input_ids")
    source = named.get("inputs_embeds") if source is None else source
    brought = {name for name, value in named.items() if value is not None}
    if state.length == 0 or state.rope_deltas is None or source is None or brought - OF_TEXT:
        return
    device = source.device
    later = torch.arange(state.length, state.length + source.shape[1], device=device)
    counted = later - _padding(state).to(device)[:, None]
    named[POSITIONS] = (counted + state.rope_deltas.to(device)).expand(3, -1, -1)


def rotary_positions(state: State, counted: Tensor) -> Tensor:
    """Position ids of the next rows of a batch, each row ahead of its count by its own request's.

    Args:
        state: of the batch's cache.
        counted: int64 [B, rows], positions counted from each prompt's first real token.

    Returns:
        int64 [3, B, rows]; `counted` itself where no request is ahead.
    """
    if state.rope_deltas is None:
        return counted
    return (counted + state.rope_deltas.to(counted.device)).expand(3, -1, -1)


def _padding(state: State) -> Tensor:
    """int64 [B], padding rows before each prompt."""
    assert state.token_map is not None
    return (~state.token_map.valid).sum(dim=1)
