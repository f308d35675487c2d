"""Which tokens a layer holds, and which it may append."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class HeldTokens:
    """Which tokens a layer holds. Layers that hold the same tokens share one object.

    Attributes:
        positions: int64 [B, n], original positions, ascending; -1 for padding.
        valid: bool [B, n], False for padding; None when every token is real.
    """

    positions: Tensor
    valid: Tensor | None = None

    def map_rows(self, function: Callable[[Tensor], Tensor]) -> "HeldTokens":
        """Move batch rows."""
        valid = None if self.valid is None else function(self.valid)
        return HeldTokens(function(self.positions), valid)

    def without_last(self, count: int) -> "HeldTokens":
        """All but the last `count` tokens."""
        return self.map_rows(lambda tensor: tensor[:, :-count])

    def followed_by(self, later: "HeldTokens") -> "HeldTokens":
        """These tokens and later ones, on the device of the later ones."""
        before = self.positions.to(later.positions.device)
        positions = torch.cat([before, later.positions], dim=1)
        real = self.valid is None and later.valid is None
        return HeldTokens(positions, None if real else positions >= 0)

    def hidden(self, real: Tensor) -> "HeldTokens":
        """The same tokens, padding where `real` (bool [B, seen tokens]) is False."""
        real = real.to(self.positions.device)
        kept = real.gather(1, self.positions.clamp(min=0)) & (self.positions >= 0)
        return HeldTokens(self.positions.masked_fill(~kept, -1), kept)


@dataclass(frozen=True)
class Ticket:
    """Permission to append the tokens of one forward pass to one layer, once.

    Attributes:
        tokens: how many will be appended.
        seen_tokens: how many the model was given in this forward, before any cut.
        held: all tokens that the layer will then hold; None where positions count on.
        cut: whether a cut moved tokens away from the model's own columns.
    """

    tokens: int
    seen_tokens: int
    held: HeldTokens | None = None
    cut: bool = False
