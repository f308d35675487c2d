"""A KV buffer that grows at its end without being copied each time."""

from collections.abc import Callable

import torch
from torch import Tensor

#: Tokens kept in reserve: at least this many, and one for each SHARE tokens held.
BLOCK = 16
SHARE = 32


class KVBuffer:
    """A tensor [B, G, T, D] whose T grows, in memory with room for more tokens.

    The first tokens are kept as they come, without reserve: many caches never grow far. From then
    on, a copy is made only when the reserve is used up.

    Args:
        first: [B, G, T, D].

    Attributes:
        held: [B, G, T, D], the tokens held: a view of memory that this object owns.
    """

    def __init__(self, first: Tensor) -> None:
        # Contiguous as DynamicLayer's, so that kernels give the same bits.
        self._memory = first.contiguous()
        self.held = self._memory

    def append(self, more: Tensor) -> None:
        """Add tokens [B, G, t, D] at the end."""
        if torch.compiler.is_compiling():
            # As DynamicCache: a graph cannot ask whose memory it may write to.
            self._memory = self.held = torch.cat([self.held, more], dim=-2)
            return
        held, total = self.held.shape[-2], self.held.shape[-2] + more.shape[-2]
        if self._may_write(more) and total <= self._memory.shape[-2]:
            self._memory[..., held:total, :] = more
        elif torch.is_grad_enabled() and (more.requires_grad or self.held.requires_grad):
            self._memory = torch.cat([self.held, more], dim=-2)
        else:
            reserve = max(BLOCK, total // SHARE)
            batch, groups, _, size = more.shape
            memory = self.held.new_empty((batch, groups, total + reserve, size))
            memory[..., :held, :] = self.held
            memory[..., held:total, :] = more
            self._memory = memory
        self.held = self._memory[..., :total, :]

    def _may_write(self, more: Tensor) -> bool:
        """Whether autograd and inference mode let the memory be written to."""
        if self._memory.is_inference() and not torch.is_inference_mode_enabled():
            return False
        return not (torch.is_grad_enabled() and (more.requires_grad or self.held.requires_grad))

    def crop(self, count: int) -> None:
        """Forget the last `count` tokens; their memory becomes reserve."""
        self.held = self._memory[..., : self.held.shape[-2] - count, :]

    def map_batch(self, function: Callable[[Tensor], Tensor]) -> None:
        """Move batch rows (dimension 0), reserve included."""
        held = self.held.shape[-2]
        self._memory = function(self._memory)
        self.held = self._memory[..., :held, :]

    def __getstate__(self) -> dict[str, Tensor]:
        return {"held": self.held.contiguous()}  # a view would be saved with all of its memory

    def __setstate__(self, state: dict[str, Tensor]) -> None:
        self._memory = self.held = state["held"]

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens held."""
        return int(self.held.nbytes)

    @property
    def reserve_nbytes(self) -> int:
        """Bytes of memory kept free for more tokens."""
        return int(self._memory.nbytes) - self.nbytes
