"""What a step answers, and what a batch is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


class Batch(ABC):
    """Requests that are decoded together."""

    @classmethod
    @abstractmethod
    def from_pb(cls, pb: Any, tokenizer: Any, dtype: Any, device: Any) -> Any: ...

    @abstractmethod
    def filter(self, request_ids: list[int]) -> Any: ...

    @classmethod
    @abstractmethod
    def concatenate(cls, batches: list[Any]) -> Any: ...

    @abstractmethod
    def __len__(self) -> int: ...


@dataclass
class Generation:
    """One token of one request."""

    request_id: int
    token: int
    logprob: float
    stopped: bool
