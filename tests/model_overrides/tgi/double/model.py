"""A model as a shard serves it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from tests.model_overrides.tgi.double.speculate import get_speculate


class Model(ABC):
    """Holds what a shard asks of any model."""

    def __init__(
        self,
        model_id: str,
        model: nn.Module,
        tokenizer: Any,
        requires_padding: bool,
        dtype: torch.dtype,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        sliding_window: int | None = None,
        speculate: int | None = None,
        adapter_id: str = "__base_model__",
        support_chunking: bool = False,
    ) -> None:
        assert not any(weights.is_meta for weights in model.parameters())
        self.model_id, self.model, self.tokenizer = model_id, model.eval(), tokenizer
        self.requires_padding, self.dtype, self.device = requires_padding, dtype, device
        self.rank, self.world_size = rank, world_size
        self.speculate = get_speculate() if speculate is None else speculate
        self.support_chunking = support_chunking
        self.has_position_ids = "position_ids" in inspect.signature(model.forward).parameters

    @property
    @abstractmethod
    def batch_type(self) -> Any: ...

    @abstractmethod
    def generate_token(self, batch: Any) -> Any: ...

    def warmup(
        self, batch: Any, max_input_tokens: int | None, max_total_tokens: int | None
    ) -> tuple[int | None, int, int]:
        self.generate_token(batch)
        held = sum(map(len, batch.input_ids))
        longest = held if max_total_tokens is None else max_total_tokens
        return None, longest - 1 if max_input_tokens is None else max_input_tokens, longest
