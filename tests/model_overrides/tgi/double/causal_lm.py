"""The padded batch, and the loop over it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tests.model_overrides.tgi.double import generate_pb2
from tests.model_overrides.tgi.double.model import Model
from tests.model_overrides.tgi.double.types import Batch, Generation


class Choice:
    """Picks the likeliest token, those seen before made less likely."""

    def __init__(self, parameters: Any) -> None:
        self.penalty = parameters.repetition_penalty

    def __call__(self, seen: Tensor, scores: Tensor) -> int:
        held = scores.gather(1, seen)  # fails on ids without a logit
        held = torch.where(held < 0, held * self.penalty, held / self.penalty)
        return int(scores.scatter(1, seen, held)[0].argmax())


class Stop:
    """Counts new tokens."""

    def __init__(self, parameters: Any, tokenizer: Any) -> None:
        self.max_new_tokens = parameters.max_new_tokens
        self.ends = set() if parameters.ignore_eos_token else {tokenizer.eos_token_id}
        self.current_tokens = 0

    def __call__(self, token: int) -> bool:
        self.current_tokens += 1
        return self.current_tokens >= self.max_new_tokens or token in self.ends


@dataclass
class CausalLMBatch(Batch):
    """Requests padded on the left to the longest, with room for what they will say."""

    batch_id: int
    requests: Any
    requests_idx_mapping: dict[int, int]
    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    past_key_values: Any
    all_input_ids: list[Tensor]
    input_lengths: list[int]
    prefix_offsets: list[int]
    read_offsets: list[int]
    next_token_choosers: list[Any]
    stopping_criterias: list[Any]
    top_n_tokens: list[int]
    top_n_tokens_tensor: Tensor
    max_input_length: int
    padding_right_offset: int
    max_tokens: int
    keys_head_dim_last: bool = True

    def to_pb(self) -> generate_pb2.CachedBatch:
        ids = [request.id for request in self.requests]
        return generate_pb2.CachedBatch(
            self.batch_id, ids, len(self), self.max_tokens, len(self.input_ids)
        )

    @classmethod
    def from_pb(cls, pb: Any, tokenizer: Any, dtype: Any, device: Any) -> Any:
        texts = []
        for request in pb.requests:
            (text,) = (
                c.text for c in request.input_chunks.chunks if c.WhichOneof("chunk") == "text"
            )
            texts.append(text)
        tokens = tokenizer(
            texts,
            return_tensors="pt",
            padding=True,
            return_token_type_ids=False,
            truncation=True,
            max_length=max(request.truncate for request in pb.requests),
        ).to(device)
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        stops = [Stop(request.stopping_parameters, tokenizer) for request in pb.requests]
        room = max(stop.max_new_tokens for stop in stops)
        rows, width = ids.shape
        return cls(
            batch_id=pb.id,
            requests=pb.requests,
            requests_idx_mapping={request.id: row for row, request in enumerate(pb.requests)},
            input_ids=ids,
            attention_mask=torch.nn.functional.pad(mask, (0, room)),
            position_ids=(mask.cumsum(1) - 1).masked_fill(mask == 0, 1),
            past_key_values=None,
            all_input_ids=[row[:, None] for row in ids],
            input_lengths=mask.sum(1).tolist(),
            prefix_offsets=[width - 5] * rows,
            read_offsets=[width] * rows,
            next_token_choosers=[Choice(request.parameters) for request in pb.requests],
            stopping_criterias=stops,
            top_n_tokens=[request.top_n_tokens for request in pb.requests],
            top_n_tokens_tensor=torch.tensor([r.top_n_tokens for r in pb.requests]),
            max_input_length=int(mask.sum(1).max()),
            padding_right_offset=room,
            max_tokens=rows * (width + sum(stop.max_new_tokens for stop in stops)),
        )

    _LISTS = (
        "requests input_lengths prefix_offsets read_offsets all_input_ids next_token_choosers "
        "stopping_criterias top_n_tokens"
    ).split()

    def filter(self, request_ids: list[int]) -> Any:
        if not request_ids:
            raise ValueError("no request is left")
        if len(request_ids) == len(self):
            return self
        rows = [self.requests_idx_mapping[i] for i in request_ids]
        for name in self._LISTS:
            whole = list(getattr(self, name))
            setattr(self, name, [whole[row] for row in rows])
        self.requests_idx_mapping = {i: place for place, i in enumerate(request_ids)}
        width = max(self.input_lengths)
        left = [stop.max_new_tokens - stop.current_tokens for stop in self.stopping_criterias]
        end = self.attention_mask.shape[1] - self.padding_right_offset
        self.attention_mask = self.attention_mask[rows, end - width : end + max(left)]
        for keys, values in self.past_key_values:
            for held in (keys, values):
                assert held.shape[0] == len(self.input_ids) and held.dim() == 4
                assert held.shape[2] >= width - 1
        self.past_key_values = []
        self.input_ids, self.position_ids = self.input_ids[rows], self.position_ids[rows]
        self.top_n_tokens_tensor = self.top_n_tokens_tensor[rows]
        self.max_input_length, self.padding_right_offset = width, max(left)
        self.max_tokens = len(rows) * width + sum(left)
        return self

    @classmethod
    def concatenate(cls, batches: list[Any]) -> Any:
        width = max(batch.max_input_length for batch in batches)
        room = max(batch.padding_right_offset for batch in batches)
        mapping: dict[int, int] = {}
        masks, before = [], 0
        for batch in batches:
            if batch.past_key_values is None:
                raise ValueError("not prefilled")
            keys, values = batch.past_key_values[0]
            assert keys.shape[:3] == values.shape[:3]
            assert (keys.shape[0], keys.shape[2]) == (len(batch), batch.max_input_length - 1)
            end = batch.attention_mask.shape[1] - batch.padding_right_offset
            mask = batch.attention_mask[:, end - batch.max_input_length : end]
            masks.append(torch.nn.functional.pad(mask, (width - mask.shape[1], room)))
            mapping |= {i: row + before for i, row in batch.requests_idx_mapping.items()}
            before += len(batch)
        lists = {
            name: [item for batch in batches for item in getattr(batch, name)]
            for name in cls._LISTS
        }
        joined = ("input_ids", "position_ids", "top_n_tokens_tensor")
        return replace(
            batches[0],
            requests_idx_mapping=mapping,
            attention_mask=torch.cat(masks),
            past_key_values=[],
            max_input_length=width,
            padding_right_offset=room,
            max_tokens=sum(batch.max_tokens for batch in batches),
            **{name: torch.cat([getattr(batch, name) for batch in batches]) for name in joined},
            **lists,
        )

    def __len__(self) -> int:
        return len(self.requests)


class CausalLM(Model):
    """Decodes a padded batch token by token."""

    batch_class: Any

    @property
    def batch_type(self) -> Any:
        return self.batch_class

    def forward(
        self, input_ids: Any, attention_mask: Any, position_ids: Any, past_key_values: Any = None
    ) -> Any:
        raise AssertionError("pruned models bring their own")

    def generate_token(self, batch: Any) -> Any:
        mask = batch.attention_mask[:, : -batch.padding_right_offset]
        logits, drafts, past = self.forward(
            batch.input_ids, mask, batch.position_ids, batch.past_key_values
        )
        assert drafts is None and logits.shape[:2] == (len(batch), 1)
        generations, running = [], False
        for row, request in enumerate(batch.requests):
            seen = batch.all_input_ids[row]
            token = batch.next_token_choosers[row](seen.view(1, -1), logits[row])
            stopped = batch.stopping_criterias[row](token)
            running |= not stopped
            if row % self.world_size == self.rank:
                logprob = float(logits[row, -1].log_softmax(-1)[token])
                generations.append(Generation(request.id, token, logprob, stopped))
            batch.all_input_ids[row] = torch.cat([seen, torch.tensor([[token]])])
            batch.input_ids[row, 0] = token
            batch.input_lengths[row] += 1
        batch.max_input_length = max(batch.input_lengths)
        if not running:
            return generations, None, (0, 0)
        batch.input_ids = batch.input_ids[:, :1]
        batch.attention_mask[:, -batch.padding_right_offset] = 1
        batch.padding_right_offset -= 1
        batch.position_ids = batch.position_ids[:, -1:] + 1
        batch.past_key_values = past
        return generations, batch, (0, 0)
