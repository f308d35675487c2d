"""What models with multi-dimensional rotary positions remember, kept per request.

The Qwen-VL line and its kin write on the model by how much the rotary positions of its last
prompt differ from token counts (`rope_deltas`), and read it when a later turn continues. Two
conversations, in turn or in two threads, would each continue with what the other wrote.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.pruning.request import Request, RowFacts, request_of
from fastav_plugin.upstream.arguments import OF_TEXT, POSITIONS, cache_of
from fastav_plugin.upstream.positions import (
    METHOD,
    own_method,
    path_to_memory,
    remember,
    remembering,
)


def positions_method(head: nn.Module) -> MethodType | None:
    """METHOD for one head, which lets generate continue a request from its own memory.

    None if the head has no such memory, or a method of its own already.
    """
    if own_method(head) is None or METHOD in head.__dict__ or path_to_memory(head) is None:
        return None
    return MethodType(_prepare_position_ids_for_generation, head)


# By METHOD's own name, by which a pickled model finds it again on its class.
def _prepare_position_ids_for_generation(
    self: Any, inputs_tensor: Tensor, model_kwargs: dict[str, Any]
) -> Any:
    request, path = request_of(cache_of(model_kwargs)), path_to_memory(self)
    deltas = None if request is None else _of_prompts(request, inputs_tensor.shape[0])
    if deltas is not None and path is not None:
        # Shown to this call alone: another thread may write on the model at any time.
        self = remembering(self, path, deltas)
    return own_method(self)(self, inputs_tensor, model_kwargs)


def remind(head: nn.Module, request: Request, prompts: int) -> None:
    """Write a request's deltas on a model that is already asked for the positions of `prompts`."""
    path, deltas = path_to_memory(head), _of_prompts(request, prompts)
    if path is not None and deltas is not None:
        remember(head, path, deltas)


def _of_prompts(request: Request, prompts: int) -> Tensor | None:
    """The deltas of a request, int64 [prompts, 1]: beams stand together and have one value."""
    deltas = request.facts.rope_deltas
    return None if deltas is None else deltas[:: max(1, deltas.shape[0] // prompts)]


def measure_deltas(facts: RowFacts, positions: Tensor | None, length: int) -> Tensor | None:
    """What the rotary positions of a request are ahead of token counts: int64 [B, 1], or None.

    Once, as models do: later turns count on from there. `positions` are those of its last tokens,
    [n, B, T] where they are multi-dimensional; `length` is seen tokens, these included.
    """
    known = facts.rope_deltas
    if known is not None or positions is None or positions.dim() != 3 or facts.token_map is None:
        return known
    last = length - 1 - _padding(facts).to(positions.device)
    return (positions[-3:].amax(dim=(0, 2)) - last)[:, None]


def continue_positions(request: Request, named: dict[str, Any]) -> None:
    """Give a direct call with more text, and no position ids, its request's: [3, B, T]."""
    source = named.get("input_ids")
    source = named.get("inputs_embeds") if source is None else source
    present = {name for name, value in named.items() if value is not None}
    facts, past = request.facts, request.seen_tokens
    if past == 0 or facts.rope_deltas is None or source is None or present - OF_TEXT:
        return
    later = torch.arange(past, past + source.shape[1], device=source.device)
    counted = later - _padding(facts).to(source.device)[:, None]
    named[POSITIONS] = rotary_positions(request, counted)


def rotary_positions(request: Request, counted: Tensor) -> Tensor:
    """Position ids int64 [3, B, T] of next tokens, each batch row ahead of its count by its delta.

    `counted`, int64 [B, T], counts from each prompt's first real token; it is returned itself
    where no request is ahead.
    """
    deltas = request.facts.rope_deltas
    if deltas is None:
        return counted
    return (counted + deltas.to(counted.device)).expand(3, -1, -1)


def _padding(facts: RowFacts) -> Tensor:
    """int64 [B], padding before each prompt."""
    assert facts.token_map is not None
    return (~facts.token_map.valid).sum(dim=1)
