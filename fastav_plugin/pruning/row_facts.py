"""What a request knows of each batch row, in one object that moves with the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.pruning.reasons import Reason
from fastav_plugin.tokens import TokenMap


@dataclass(frozen=True, eq=False)
class RowFacts:
    """What a request knows of each batch row.

    A new fact is one more attribute: a TokenMap, or a tensor [B, ...] with 0 for "nothing".

    Attributes:
        token_map: map [B, T] of the conversation, up to the last prompt that hooks were asked
            about; None before prefill.
        given_map: the caller's, of the first prompt or of the conversation so far.
        shift: int64 [B], what renumbering takes off later positions.
        rope_deltas: int64 [B, 1], what multi-dimensional rotary positions are ahead of counts.
        prompt_end: int64 [B], where the prompts end, which stacked requests do apart; padding
            before them is counted.
        reason: int64 [B], the `Reason` why nothing was pruned, or 0.
    """

    token_map: TokenMap | None = None
    given_map: TokenMap | None = None
    shift: Tensor | None = None
    rope_deltas: Tensor | None = None
    prompt_end: Tensor | None = None
    reason: Tensor | None = None

    def map_rows(self, function: Callable[[Tensor], Tensor]) -> RowFacts:
        """Move batch rows, by a function of tensors [B, ...]."""
        return self._each(function, function)

    def select(self, rows: Tensor, start: int) -> RowFacts:
        """Batch rows by index, int64 [n], without `start` leading columns of padding."""

        def selected(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)]

        kept = self._each(selected, lambda column: selected(column)[:, start:])
        assert kept.prompt_end is not None
        return replace(kept, prompt_end=kept.prompt_end - start)

    def _each(
        self, of_tensor: Callable[[Tensor], Tensor], of_column: Callable[[Tensor], Tensor]
    ) -> RowFacts:
        """Apply functions to the tensors, and to those of maps that have as many batch rows."""
        moved: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                moved[entry.name] = of_tensor(value)
            elif value is not None and self.token_map and value.rows == self.token_map.rows:
                moved[entry.name] = value.map_rows(of_column)
        return replace(self, **moved)

    def first(self, length: int) -> RowFacts:
        """What is known of the first `length` positions."""
        if length == 0:
            return RowFacts()
        token_map, given = self.token_map, self.given_map
        return replace(
            self,
            token_map=token_map and token_map.first(length),
            given_map=given and given.first(length),
        )

    def extended(self, length: int) -> TokenMap:
        """The map of the conversation, all later tokens up to `length` as text."""
        assert self.token_map is not None
        return self.token_map.extend(length - self.token_map.length)

    @classmethod
    def stack(cls, requests: Sequence[RowFacts], lengths: Sequence[int]) -> RowFacts:
        """The batch rows of several requests, each padded on the left to the longest.

        Args:
            requests: what was known of each.
            lengths: seen tokens of each.
        """
        maps = [facts.extended(length) for facts, length in zip(requests, lengths, strict=True)]
        rows = [token_map.rows for token_map in maps]
        joined: dict[str, Any] = {}
        for entry in fields(cls):
            found = [getattr(facts, entry.name) for facts in requests]
            like = next((value for value in found if isinstance(value, Tensor)), None)
            if like is not None:
                pieces = [
                    like.new_zeros((count, *like.shape[1:])) if value is None else value
                    for value, count in zip(found, rows, strict=True)
                ]
                joined[entry.name] = torch.cat([piece.to(like.device) for piece in pieces])
        shifts = torch.tensor([max(lengths) - length for length in lengths])
        moved = shifts.repeat_interleave(torch.tensor(rows)).to(joined["prompt_end"].device)
        joined["prompt_end"] = joined["prompt_end"] + moved
        return cls(token_map=TokenMap.batch(maps), **joined)

    def prompts(self, positions: list[Tensor]) -> tuple[TokenMap, list[Tensor]]:
        """The map [B, T] and each layer's positions [B, n], with all but prompts as padding."""
        assert self.token_map is not None and self.prompt_end is not None
        ends = self.prompt_end[:, None]
        columns = torch.arange(self.token_map.length, device=ends.device)
        return self.token_map.padded(columns >= ends), [
            held.masked_fill(held >= ends.to(held.device), -1) for held in positions
        ]

    def reason_of(self, row: int | None) -> Reason | None:
        """Why a batch row, or the whole batch, was not pruned; None if it was."""
        assert self.reason is not None
        codes = self.reason.tolist()
        if row is not None and -len(codes) <= row < len(codes):
            codes = [codes[row]]
        return None if 0 in codes else Reason(codes[0])
