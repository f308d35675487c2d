"""FastAVLayer: keys, values, positions and validity of one decoder layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import StateError, UnsupportedError
from fastav_plugin.layers.kv_buffer import GrowingRows
from fastav_plugin.upstream.caches import LAYER


@dataclass(frozen=True)
class Ticket:
    """Leave to append the rows of one forward pass to one layer, once.

    Attributes:
        rows: rows that will be appended.
        logical: rows the forward brought before any cut.
        positions: int64 [B, n], original positions of all rows the layer will then hold, -1 for
            padding; None for rows that follow the logical end one by one.
        valid: bool [B, n]; None when every row is real.
        cut: whether a cut moved rows away from the model's own columns.
    """

    rows: int
    logical: int
    positions: Tensor | None = None
    valid: Tensor | None = None
    cut: bool = False


class FastAVLayer(LAYER):  # type: ignore[misc]
    """KV rows of one layer, which may be fewer than the tokens the model has seen.

    Prompts give the `head` of positions explicitly; rows after the last of them follow one by
    one, so they are stored as a count. `logical_length` counts rows before any cut: it is what
    masks and positions of the model's own loop are made from.
    """

    is_compileable = False
    is_croppable = True
    is_sliding = False
    supports_early_init = False

    def __init__(self, sliding_window: int | None = None) -> None:
        super().__init__()
        self.window = sliding_window
        self.logical_length = 0
        self._clear()

    def _clear(self) -> None:
        self.keys: Any = None
        self.values: Any = None
        self._growing: tuple[GrowingRows, GrowingRows] | None = None
        self.is_initialized = False
        self.logical_length = 0
        self.head: Tensor | None = None  # int64 [B, h]
        self.head_valid: Tensor | None = None  # bool [B, h]
        self.head_logical = 0
        self.compacted = False
        self.ticket: Ticket | None = None

    def expect(self, ticket: Ticket) -> None:
        """Allow the next `update`, which must bring exactly the ticket's rows."""
        self.ticket = ticket

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Remember dtype and device; rows come with `update`."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append rows, keys and values [B, G, T, D]; returns all rows the layer may see.

        Raises:
            StateError: no ticket for these rows, i.e. no pruning hook ran before this layer.
        """
        ticket, self.ticket = self.ticket, None
        if ticket is None or ticket.rows != key_states.shape[-2]:
            raise StateError(
                "This FastAVCache got rows that no pruning hook announced"
                + ("" if ticket is None else f" ({key_states.shape[-2]}, not {ticket.rows})")
                + ". The model is not attached (call fastav_plugin.attach(model, config)), was "
                "detached, was compiled before attach (attach, then compile), or the cache "
                "belongs to another model."
            )
        if self._growing is None:
            self.lazy_initialization(key_states, value_states)
            self._growing = GrowingRows(key_states), GrowingRows(value_states)
        else:
            self._growing[0].append(key_states)
            self._growing[1].append(value_states)
        keys, values = self._show()
        self.logical_length += ticket.logical
        self.compacted |= ticket.cut
        if ticket.positions is not None:
            self.head, self.head_valid = ticket.positions, ticket.valid
            self.head_logical = self.logical_length
        seen = self.visible_rows(self.rows, ticket.rows)
        if seen == self.rows:
            return keys, values
        return keys[..., -seen:, :], values[..., -seen:, :]

    def fill(
        self, keys: Tensor, values: Tensor, logical: int, positions: Tensor, valid: Tensor | None
    ) -> None:
        """Hold these rows [B, G, T, D] of `logical` rows brought, as if all were cut to."""
        self.lazy_initialization(keys, values)
        self._growing = GrowingRows(keys), GrowingRows(values)
        self._show()
        self.logical_length = self.head_logical = logical
        self.head, self.head_valid = positions, valid
        self.compacted = True

    def _show(self) -> tuple[Tensor, Tensor]:
        """Put the rows held where everybody looks for them."""
        assert self._growing is not None
        self.keys, self.values = self._growing[0].rows, self._growing[1].rows
        return self.keys, self.values

    @property
    def rows(self) -> int:
        """KV rows held."""
        return 0 if self.keys is None else self.keys.shape[-2]

    @property
    def tail(self) -> int:
        """Rows appended after the last prompt; the last ones held."""
        return self.logical_length - self.head_logical

    def hide(self, real: Tensor, like: FastAVLayer | None) -> None:
        """Take rows that turned out to be padding for padding.

        Args:
            real: bool [B, logical length], False for padding among all rows brought so far.
            like: a layer that held the same rows and has hidden them.
        """
        if like is None:
            positions = self.positions
            kept = real.to(positions.device).gather(1, positions.clamp(min=0)) & (positions >= 0)
            self.head, self.head_valid = positions.masked_fill(~kept, -1), kept
        else:
            self.head, self.head_valid = like.head, like.head_valid
        self.head_logical = self.logical_length

    def visible_rows(self, total: int, queries: int) -> int:
        """How many of `total` rows the last `queries` rows could see through a sliding window.

        Positions are ascending and unique, so the window never holds more rows than positions;
        the mask hides those that a cut moved into it.
        """
        if self.window is None or total == queries:
            return total
        return min(total, self.window - 1 + queries)

    @property
    def positions(self) -> Tensor:
        """Original position of each row: int64 [B, kv], -1 for padding."""
        if self.keys is None or self.head is None:
            return torch.empty((0, 0), dtype=torch.int64)
        tail = torch.arange(self.head_logical, self.logical_length, device=self.head.device)
        return torch.cat([self.head, tail.expand(self.head.shape[0], -1)], dim=1)

    @property
    def valid(self) -> Tensor | None:
        """Bool [B, kv], False for padding; None when every row is real."""
        if self.head_valid is None:
            return None
        return torch.nn.functional.pad(self.head_valid, (0, self.tail), value=True)

    @property
    def batch_size(self) -> int:
        """Batch rows B; -1 before the first update."""
        return -1 if self.keys is None else self.keys.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that keys and values take, room for more rows included."""
        return sum(rows.nbytes for rows in self._growing or ())

    @property
    def dense_nbytes(self) -> int:
        """Bytes that keys and values would take without cuts, and without room for more."""
        if self.keys is None or self.values is None or not self.rows:
            return 0
        return int(self.keys.nbytes + self.values.nbytes) // self.rows * self.logical_length

    def get_seq_length(self) -> int:
        """Logical length: rows the model has brought, cut or not."""
        return self.logical_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Size and offset of the mask the model should build: logical, so offset 0."""
        return self.logical_length + query_length, 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def offload(self) -> None:
        """Refused: rows are gathered where they lie."""
        raise UnsupportedError("FastAVCache does not offload. Use a FastAVCache on the device.")

    def reset(self) -> None:
        """Forget all rows."""
        self._clear()

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last `-tokens_to_remove` rows (a negative number, or 0 for none).

        Raises:
            StateError: rows of the prompt are among them that were pruned.
        """
        self.check_crop(tokens_to_remove)
        count = -tokens_to_remove
        if count == 0 or self._growing is None:
            return
        of_head = count - self.tail
        if of_head > 0:
            assert self.head is not None
            self.head = self.head[:, :-of_head]
            self.head_valid = None if self.head_valid is None else self.head_valid[:, :-of_head]
            self.head_logical -= of_head
        for rows in self._growing:
            rows.crop(count)
        self._show()
        self.logical_length -= count

    def check_crop(self, tokens_to_remove: int) -> None:
        """Raise what `crop` would, and change nothing."""
        if tokens_to_remove > 0:
            raise StateError(
                f"`crop` takes a negative number of rows to remove, got {tokens_to_remove}."
            )
        of_head = -tokens_to_remove - self.tail
        if of_head <= 0 or self.head is None:
            return
        if -tokens_to_remove > self.logical_length:
            raise StateError(
                f"Cannot crop {-tokens_to_remove} rows: the model has brought "
                f"{self.logical_length}."
            )
        if not self.compacted:
            return
        # Drafted rows of a prompt's forward are its last rows, which no cut removes.
        last = torch.arange(self.head_logical - of_head, self.head_logical, device=self.head.device)
        if of_head >= self.head.shape[1] or not bool((self.head[:, -of_head:] == last).all()):
            raise StateError(
                f"Cannot crop {of_head} rows of the prompt: some of them were pruned. "
                "Start from a new FastAVCache."
            )

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Move batch rows for beam search: int64 [B]."""
        self.map_rows(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each batch row `repeats` times."""
        self.map_rows(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these batch rows."""
        self.map_rows(lambda tensor: tensor[indices.to(tensor.device)])

    def map_rows(
        self,
        function: Callable[[Tensor], Tensor],
        shared: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Move batch rows: keys, values, positions and validity together.

        Args:
            function: of a tensor whose dimension 0 is the batch.
            shared: the same for positions and validity, which layers share.
        """
        shared = shared or function
        for rows in self._growing or ():
            rows.map_batch(function)
        if self._growing is not None:
            self._show()
        if self.head is not None:
            self.head = shared(self.head)
        if self.head_valid is not None:
            self.head_valid = shared(self.head_valid)
