"""The messages of a shard's protocol that pruned batches read or make."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields
from typing import Any


class Message:
    """What all messages can do."""

    def CopyFrom(self, other: Any) -> None:  # noqa: N802
        for item in fields(other):
            setattr(self, item.name, copy.deepcopy(getattr(other, item.name)))


@dataclass
class Image(Message):
    data: bytes = b""
    mimetype: str = ""


@dataclass
class InputChunk(Message):
    text: str | None = None
    image: Image | None = None

    def WhichOneof(self, name: str) -> str:  # noqa: N802
        assert name == "chunk"
        return "text" if self.text is not None else "image"


@dataclass
class Input(Message):
    chunks: list[InputChunk] = field(default_factory=list)


@dataclass
class NextTokenChooserParameters(Message):
    do_sample: bool = False
    repetition_penalty: float = 1.0


@dataclass
class StoppingCriteriaParameters(Message):
    max_new_tokens: int = 0
    ignore_eos_token: bool = False


@dataclass
class Request(Message):
    id: int = 0
    input_chunks: Input = field(default_factory=Input)
    inputs: str = ""
    truncate: int = 0
    parameters: NextTokenChooserParameters = field(default_factory=NextTokenChooserParameters)
    stopping_parameters: StoppingCriteriaParameters = field(
        default_factory=StoppingCriteriaParameters
    )
    prefill_logprobs: bool = False
    top_n_tokens: int = 0
    add_special_tokens: bool = False


@dataclass
class Batch(Message):
    id: int = 0
    requests: list[Request] = field(default_factory=list)
    size: int = 0
    max_tokens: int = 0


@dataclass
class CachedBatch(Message):
    id: int = 0
    request_ids: list[int] = field(default_factory=list)
    size: int = 0
    max_tokens: int = 0
    current_tokens: int = 0
