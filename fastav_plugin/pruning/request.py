"""What one FastAVCache knows about its request, and of each batch row, beside keys and values."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.config import FastAVConfig
from fastav_plugin.display.units import percent
from fastav_plugin.errors import StateError
from fastav_plugin.flops import LayerCost
from fastav_plugin.functional.hashing import fingerprints
from fastav_plugin.hooks.registry import LayerHookList
from fastav_plugin.layers.held_tokens import HeldTokens
from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.pruning.bound_model import BoundModel, Origin
from fastav_plugin.pruning.decode import Decode
from fastav_plugin.pruning.observer import PruningListener
from fastav_plugin.pruning.prefill import Prefill
from fastav_plugin.pruning.prompt import Reason
from fastav_plugin.report import PruningReport, make_report
from fastav_plugin.tokens import TokenMap

#: Facts that are places in the conversation, which move with its padding.
_ENDS = ("prompt_end", "opening_end")

#: Tokens at the end of a first prompt that a later turn may give otherwise.
_OPEN_END = 4


@dataclass(frozen=True, eq=False, repr=False)
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
        opening: int64 [B], fingerprint of the first prompt's ids, but for its last few: they may
            be tokenized otherwise together with the answer. 0 where nothing is known of them.
        opening_end: int64 [B], where that part ends; padding before it is counted.
        overhead: int64 [B], multiply-accumulates of choosing tokens, of all turns so far.
    """

    token_map: TokenMap | None = None
    given_map: TokenMap | None = None
    shift: Tensor | None = None
    rope_deltas: Tensor | None = None
    prompt_end: Tensor | None = None
    reason: Tensor | None = None
    opening: Tensor | None = None
    opening_end: Tensor | None = None
    overhead: Tensor | None = None

    def map_rows(self, function: Callable[[Tensor], Tensor]) -> "RowFacts":
        """Move batch rows, by a function of tensors [B, ...]."""
        return self._each(function, function)

    def select(self, rows: Tensor, start: int) -> "RowFacts":
        """Batch rows by index, int64 [n], without `start` leading columns of padding."""

        def selected(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)]

        kept = self._each(selected, lambda column: selected(column)[:, start:])
        ends = {name: getattr(kept, name) for name in _ENDS}
        return replace(kept, **{k: v - start for k, v in ends.items() if v is not None})

    def _each(
        self, of_tensor: Callable[[Tensor], Tensor], of_column: Callable[[Tensor], Tensor]
    ) -> "RowFacts":
        """Apply functions to the tensors, and to those of maps that have as many batch rows."""
        moved: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                moved[entry.name] = of_tensor(value)
            elif value is not None and self.token_map and value.rows == self.token_map.rows:
                moved[entry.name] = value.map_rows(of_column)
        return replace(self, **moved)

    def first(self, length: int) -> "RowFacts":
        """What is known of the first `length` positions."""
        if length == 0:
            return RowFacts()
        token_map, given = self.token_map, self.given_map
        into_prompt = token_map is not None and length < token_map.length
        return replace(
            self,
            token_map=token_map and token_map.first(length),
            given_map=given and given.first(length),
            opening=None if into_prompt else self.opening,
        )

    def hiding(self, real: Tensor) -> "RowFacts":
        """The same with padding where bool [B, n] is False, of which nothing is known any more."""
        hidden = self.extended(real.shape[1]).padded(~real)
        if self.opening is None or self.opening_end is None or self.token_map is None:
            return replace(self, token_map=hidden)
        before = self.token_map.valid
        lost = before & ~hidden.valid[:, : before.shape[1]]
        columns = torch.arange(before.shape[1], device=lost.device)
        lost = (lost & (columns < self.opening_end[:, None].to(lost.device))).any(dim=1)
        opening = self.opening.masked_fill(lost.to(self.opening.device), 0)
        return replace(self, token_map=hidden, opening=opening)

    def opened(self, ids: Tensor, length: int) -> "RowFacts":
        """Note how the first prompt begins: ids [B, T], of which `length` are the prompt's."""
        assert self.token_map is not None
        end = max(0, length - _OPEN_END)
        valid = self.token_map.valid[:, :end].to(ids.device)
        opening = fingerprints(ids[:, :end], valid)
        return replace(self, opening=opening, opening_end=torch.full_like(opening, end))

    def may_begin(self, ids: Tensor) -> bool:
        """Whether the conversation may begin with ids [prompts, T], at least as long as it."""
        known, ends, token_map = self.opening, self.opening_end, self.token_map
        if known is None or ends is None or token_map is None or known.shape[0] % ids.shape[0]:
            return True
        every = known.shape[0] // ids.shape[0]  # beams of a prompt stand together
        columns = torch.arange(token_map.length, device=token_map.modality.device)
        valid = token_map.valid & (columns < ends[:, None].to(columns.device))
        found = fingerprints(ids[:, : token_map.length], valid[::every].to(ids.device))
        known = known[::every].to(ids.device)
        return bool(((found == known) | (known == 0)).all())

    def extended(self, length: int) -> TokenMap:
        """The map of the conversation, all later tokens up to `length` as text."""
        assert self.token_map is not None
        return self.token_map.extend(length - self.token_map.length)

    @classmethod
    def stack(cls, requests: Sequence["RowFacts"], lengths: Sequence[int]) -> "RowFacts":
        """The batch rows of requests, each padded on the left to the longest of `lengths`."""
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
        moved = shifts.repeat_interleave(torch.tensor(rows))
        for name in joined.keys() & set(_ENDS):
            joined[name] = joined[name] + moved.to(joined[name].device)
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


@dataclass(repr=False)
class Request:
    """What one FastAVCache knows; copied with it.

    Attributes:
        config: the request's settings.
        hooks: its hooks.
        given_config: whether the caller gave them; else they are the model's own once it is found.
        facts: what is known of each batch row.
        model: the model this cache is used with, from the first forward on.
        origin: of a cache that was loaded, the model that filled it, until `model` is found.
        layers: one FastAVLayer per decoder layer.
        forward: the forward pass going on.
        call: keywords of the head's call going on, until its text model has read them.
        replaced_cache: the cache of generate()'s own whose place this one took.
        started_at: seen tokens when a forward was begun that has not ended.
        current_layer: of the decoder layer that runs.
        listener: called when the pruner works, or None.
        unlogged: whether the log waits for the report of the forward going on.
    """

    config: FastAVConfig
    hooks: LayerHookList
    facts: RowFacts = field(default_factory=RowFacts)
    model: BoundModel | None = None
    origin: Origin | None = None
    layers: list[FastAVLayer] = field(default_factory=list)
    forward: Prefill | Decode | None = None
    call: dict[str, Any] | None = None
    replaced_cache: Any = None
    started_at: int | None = None
    current_layer: FastAVLayer | None = None
    listener: PruningListener | None = None
    unlogged: bool = False
    given_config: bool = True

    @property
    def seen_tokens(self) -> int:
        """Tokens that the model was given so far, cut or not."""
        return self.layers[0].seen_tokens if self.layers else 0

    @property
    def prefilled(self) -> bool:
        """Whether a prompt went through, and no forward was broken off since."""
        return self.facts.token_map is not None and self.started_at is None

    @property
    def cost(self) -> LayerCost | None:
        """Sizes of one layer of the model that filled the cache; None before there is one."""
        filled_by = self.origin if self.model is None else self.model
        return None if filled_by is None else filled_by.cost

    @property
    def method(self) -> str:
        """What reports call the hooks."""
        return self.config.method if self.config.hooks is None else "hooks"

    def report(self, row: int | None) -> PruningReport[Any]:
        """Account of a batch row, or of all for None; as `FastAVCache.report`."""
        facts, cost, layers = self.facts, self.cost, self.layers
        if facts.token_map is None or cost is None:
            raise StateError(
                "There is nothing to report before prefill. Pass this cache to generate() first."
            )
        token_map, positions = facts.prompts([layer.positions for layer in layers])
        reason = facts.reason_of(row)
        return make_report(
            method=self.method,
            token_map=token_map,
            positions=positions,
            cost=cost,
            kv_bytes=sum(layer.nbytes for layer in layers),
            dense_kv_bytes=sum(layer.dense_nbytes for layer in layers),
            reason=None if reason is None else reason.sentence(self.config.min_media_tokens),
            row=row,
            kv_reserve_bytes=sum(layer.reserve_nbytes for layer in layers),
            overhead=facts.overhead,
        )

    def describe(self) -> str:
        """A few words for the repr of the cache."""
        if self.facts.token_map is None:
            return f"{self.method}, empty"
        words = f"{self.method}, {len(self.layers)} layers"
        if not self.prefilled:
            return f"{words}, interrupted"
        report = self.report(None)
        whole = int(report.token_map.valid.sum())
        rows = report.token_map.rows
        words += "" if rows == 1 else f", {rows} rows"
        if report.reason is not None:
            return f"{words}, {whole} tokens, unpruned"
        first, last = (sum(row[layer] for row in report.tokens_per_layer) for layer in (0, -1))
        return f"{words}, {first} -> {last} of {whole} tokens, FLOPs {percent(report.flops_ratio)}"

    def saved(self) -> "Request":
        """What is saved of a request: neither the model nor what belongs to one forward."""
        return replace(
            self,
            model=None,
            origin=self.origin if self.model is None else self.model.origin(),
            forward=None,
            call=None,
            replaced_cache=None,
            current_layer=None,
            listener=None,
            unlogged=False,
        )

    def open(self, call: dict[str, Any]) -> None:
        """Begin a forward, unless the last one was interrupted after it had appended tokens."""
        if self.started_at is not None and self.seen_tokens != self.started_at:
            raise StateError(
                "The last forward pass with this FastAVCache was interrupted, so its layers "
                "disagree. Call cache.reset() or make a new one."
            )
        self.forward, self.call, self.started_at = None, call, self.seen_tokens

    def close(self) -> None:
        """End a forward that went through."""
        self.call = self.started_at = None

    def record_shift(self, shift: Tensor) -> None:
        """Note what renumbering takes off the positions of later tokens: int64 [B]."""
        self.facts = replace(self.facts, shift=shift)

    def hide(self, real: Tensor) -> None:
        """Take tokens of earlier turns for padding that are masked now: answers that ended early.

        `real` is bool [B, seen tokens], False for padding.
        """
        hidden: dict[HeldTokens | None, HeldTokens] = {}
        for layer in self.layers:
            before = layer.prompt
            if before not in hidden:
                hidden[before] = layer.held.hidden(real)
            layer.set_held(hidden[before])
        if self.facts.token_map is not None:
            self.facts = self.facts.hiding(real)

    def map_rows(self, function: Callable[[Tensor], Tensor]) -> None:
        """Move all that is kept per batch row."""
        # What layers share, they share afterwards: masks are picked once for all of them.
        moved = functools.cache(lambda held: held.map_rows(function))
        for layer in self.layers:
            layer.map_rows(function, moved)
        self.facts = self.facts.map_rows(function)

    def clear(self) -> None:
        """Back to a cache that has seen no model."""
        self.facts = RowFacts(given_map=self.facts.given_map)
        self.model = self.origin = self.forward = self.call = self.started_at = None
        self.replaced_cache = self.current_layer = None
        self.layers.clear()


def request_of(cache: Any) -> Request | None:
    """The request of a FastAVCache; None for anything else."""
    return getattr(cache, "fastav_request", None)
