"""Which requests fit: the memory that their keys and values will take, known before they begin."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fastav_plugin.binding.binding import Binding
from fastav_plugin.display.units import size as written
from fastav_plugin.errors import FastAVError
from fastav_plugin.model_overrides import find_override
from fastav_plugin.planning.dry_run import plan_tokens
from fastav_plugin.serving.batching.request import Request


class TooLargeError(FastAVError, ValueError):
    """A request that never fits."""


class KvBudget:
    """The bytes that keys and values of running requests may take together.

    Args:
        limit: in bytes; None for any number.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._held: dict[Request, int] = {}
        # Of a request that waits, which is asked about before each step.
        self._planned: dict[Request, int] = {}

    @property
    def held(self) -> int:
        """Bytes that the running requests were counted with."""
        return sum(self._held.values())

    def admits(self, head: nn.Module, request: Request) -> bool:
        """Whether a request fits beside those that run; if so it is counted.

        Raises:
            TooLargeError: it would not fit alone.
        """
        if self.limit is None:
            return True
        size = self._planned.pop(request, 0) or planned_bytes(head, request)
        if size > self.limit:
            raise TooLargeError(
                f"The keys and values of this request would take {written(size)}, the server "
                f"holds at most {written(self.limit)}. Ask for fewer tokens, or send less media."
            )
        if self.held + size > self.limit:
            self._planned[request] = size
            return False
        self._held[request] = size
        return True

    def release(self, request: Request) -> None:
        """Count a request no longer."""
        self._held.pop(request, None)


def planned_bytes(head: Any, request: Request) -> int:
    """Bytes of keys and values at the end of the longest answer, on this rank.

    Prompt tokens are those that a dry run leaves in each layer. A method that cuts by content may
    keep fewer.
    """
    override = find_override(head)
    layers = len(override.parts(head).layers)
    inputs = dict(request.inputs)
    ids = inputs["input_ids"]
    prompt = override.token_map(head.config, ids, inputs.get("attention_mask"), inputs)
    (counts,), _ = plan_tokens(request.config, prompt, layers)
    asked = request.generation_config
    new: int = asked.max_new_tokens or max(0, (asked.max_length or 0) - ids.shape[1])
    size = torch.empty((), dtype=next(head.parameters()).dtype).element_size()
    binding = Binding.of(head)
    ranks = 1 if binding is None else binding.model.ranks.size
    each = 2 * override.cost(head.config).kv_size * size // ranks
    # The last token of an answer is never held.
    return (sum(counts) + layers * max(0, new - 1)) * each
