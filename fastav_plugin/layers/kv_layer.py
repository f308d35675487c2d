"""FastAVLayer: keys, values, positions and validity of one decoder layer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.errors import StateError, UnsupportedError
from fastav_plugin.layers.held_tokens import HeldTokens, Ticket
from fastav_plugin.layers.kv_buffer import KVBuffer
from fastav_plugin.upstream.caches import LAYER


class FastAVLayer(LAYER):  # type: ignore[misc]
    """Keys and values of one layer, of fewer tokens perhaps than the model has seen.

    Attributes:
        window: size of the layer's sliding window, or None.
        seen_tokens: tokens that the model was given, cut or not; the masks and positions of the
            model's own loop are made from it.
        prompt: the tokens held up to the end of the last prompt, with their positions.
        prompt_end: seen tokens at that point; from there on positions count on one by one.
        compacted: whether the tokens held are not simply all seen tokens.
    """

    is_compileable = False
    is_croppable = True
    is_sliding = False
    supports_early_init = False

    def __init__(self, sliding_window: int | None = None) -> None:
        super().__init__()
        self.window = sliding_window
        self.reset()

    def reset(self) -> None:
        """Forget all tokens."""
        self.keys: Any = None
        self.values: Any = None
        self._buffers: tuple[KVBuffer, KVBuffer] | None = None
        self.is_initialized = False
        self.seen_tokens = 0
        self.prompt: HeldTokens | None = None
        self.prompt_end = 0
        self.compacted = False
        self.ticket: Ticket | None = None

    def expect(self, ticket: Ticket) -> None:
        """Allow the next `update`, which must append exactly the ticket's tokens."""
        self.ticket = ticket

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Note dtype and device; tokens come with `update`."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values [B, G, T, D]; returns those of all tokens the layer may see.

        Raises:
            StateError: no ticket for these tokens, i.e. no pruning hook ran before this layer.
        """
        ticket, self.ticket = self.ticket, None
        if ticket is None or ticket.tokens != key_states.shape[-2]:
            raise StateError(
                "This FastAVCache got tokens that no pruning hook announced"
                + ("" if ticket is None else f" ({key_states.shape[-2]}, not {ticket.tokens})")
                + ". The model is not attached (call fastav_plugin.attach(model, config)), was "
                "detached, was compiled before attach (attach, then compile), or the cache "
                "belongs to another model."
            )
        if self._buffers is None:
            self.lazy_initialization(key_states, value_states)
            self._buffers = KVBuffer(key_states), KVBuffer(value_states)
        else:
            self._buffers[0].append(key_states)
            self._buffers[1].append(value_states)
        keys, values = self._show()
        self.seen_tokens += ticket.seen_tokens
        self.compacted |= ticket.cut
        if ticket.held is not None:
            self.set_held(ticket.held)
        visible = self.visible_tokens(self.num_tokens, ticket.tokens)
        if visible == self.num_tokens:
            return keys, values
        return keys[..., -visible:, :], values[..., -visible:, :]

    def fill(self, keys: Tensor, values: Tensor, seen_tokens: int, held: HeldTokens) -> None:
        """Hold keys and values [B, G, T, D] of `held` tokens out of all that were seen."""
        self.lazy_initialization(keys, values)
        self._buffers = KVBuffer(keys), KVBuffer(values)
        self._show()
        self.seen_tokens = seen_tokens
        self.set_held(held)
        self.compacted = True

    def set_held(self, held: HeldTokens) -> None:
        """Say which tokens the layer holds."""
        self.prompt, self.prompt_end = held, self.seen_tokens

    def _show(self) -> tuple[Tensor, Tensor]:
        """Put keys and values where everybody looks for them."""
        assert self._buffers is not None
        self.keys, self.values = self._buffers[0].held, self._buffers[1].held
        return self.keys, self.values

    @property
    def num_tokens(self) -> int:
        """Tokens held, padding included."""
        return 0 if self.keys is None else self.keys.shape[-2]

    @property
    def appended(self) -> int:
        """Tokens appended after the last prompt; the last ones held."""
        return self.seen_tokens - self.prompt_end

    def visible_tokens(self, total: int, queries: int) -> int:
        """How many of `total` tokens the last `queries` could see through a sliding window.

        Positions are ascending and unique, so the window never holds more tokens than positions;
        the mask hides those that a cut moved into it.
        """
        if self.window is None or total == queries:
            return total
        return min(total, self.window - 1 + queries)

    @property
    def held(self) -> HeldTokens:
        """All tokens held, [B, n]."""
        return HeldTokens(self.positions, self.valid)

    @property
    def positions(self) -> Tensor:
        """Original position of each token held: int64 [B, n], -1 for padding."""
        if self.keys is None or self.prompt is None:
            return torch.empty((0, 0), dtype=torch.int64)
        prompt = self.prompt.positions
        later = torch.arange(self.prompt_end, self.seen_tokens, device=prompt.device)
        return torch.cat([prompt, later.expand(prompt.shape[0], -1)], dim=1)

    @property
    def valid(self) -> Tensor | None:
        """Bool [B, n], False for padding; None when every token is real."""
        if self.prompt is None or self.prompt.valid is None:
            return None
        return torch.nn.functional.pad(self.prompt.valid, (0, self.appended), value=True)

    @property
    def batch_size(self) -> int:
        """Batch rows B; -1 before the first update."""
        return -1 if self.keys is None else self.keys.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values held."""
        return sum(buffer.nbytes for buffer in self._buffers or ())

    @property
    def reserve_nbytes(self) -> int:
        """Bytes of memory that are kept free for the keys and values of later tokens."""
        return sum(buffer.reserve_nbytes for buffer in self._buffers or ())

    @property
    def dense_nbytes(self) -> int:
        """Bytes that keys and values would take without cuts."""
        if self.keys is None or self.values is None or not self.num_tokens:
            return 0
        return int(self.keys.nbytes + self.values.nbytes) // self.num_tokens * self.seen_tokens

    def get_seq_length(self) -> int:
        """Seen tokens, cut or not."""
        return self.seen_tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Size and offset of the mask the model should build: of seen tokens, so offset 0."""
        return self.seen_tokens + query_length, 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def offload(self) -> None:
        """Refused: keys and values are gathered where they lie."""
        raise UnsupportedError("FastAVCache does not offload. Use a FastAVCache on the device.")

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last `-tokens_to_remove` tokens (a negative number, or 0 for none).

        Raises:
            StateError: tokens of the prompt are among them that were pruned.
        """
        self.check_crop(tokens_to_remove)
        count = -tokens_to_remove
        if count == 0 or self._buffers is None:
            return
        of_prompt = count - self.appended
        if of_prompt > 0:
            assert self.prompt is not None
            self.prompt = self.prompt.without_last(of_prompt)
            self.prompt_end -= of_prompt
        for buffer in self._buffers:
            buffer.crop(count)
        self._show()
        self.seen_tokens -= count

    def check_crop(self, tokens_to_remove: int) -> None:
        """Raise what `crop` would, and change nothing."""
        if tokens_to_remove > 0:
            raise StateError(
                f"`crop` takes a negative number of tokens to remove, got {tokens_to_remove}."
            )
        of_prompt = -tokens_to_remove - self.appended
        if of_prompt <= 0 or self.prompt is None:
            return
        if -tokens_to_remove > self.seen_tokens:
            raise StateError(
                f"Cannot crop {-tokens_to_remove} tokens: the cache has seen {self.seen_tokens}."
            )
        if not self.compacted:
            return
        # Drafted tokens of a prompt's forward are its last ones, which no cut removes.
        held = self.prompt.positions
        last = torch.arange(self.prompt_end - of_prompt, self.prompt_end, device=held.device)
        if of_prompt >= held.shape[1] or not bool((held[:, -of_prompt:] == last).all()):
            raise StateError(
                f"Cannot crop {of_prompt} tokens of the prompt: some of them were pruned. "
                "Start from a new FastAVCache."
            )

    def __repr__(self) -> str:
        return f"FastAVLayer({self.num_tokens} of {self.seen_tokens} tokens)"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "keys": None, "values": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._buffers is not None:
            self._show()
            self.device = self.keys.device  # it may have been loaded to another one

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Move batch rows for beam search: int64 [B]."""
        self.map_rows(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def map_rows(
        self,
        function: Callable[[Tensor], Tensor],
        moved: Callable[[HeldTokens], HeldTokens] | None = None,
    ) -> None:
        """Move batch rows (dimension 0): keys, values, positions and validity together.

        `moved` gives what layers share once moved; None for a layer alone.
        """
        for buffer in self._buffers or ():
            buffer.map_batch(function)
        if self._buffers is not None:
            self._show()
        if self.prompt is not None:
            self.prompt = self.prompt.map_rows(function) if moved is None else moved(self.prompt)
