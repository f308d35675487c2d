"""Attention rollout of a prompt that is being prefilled, for the hooks that ask for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from fastav_plugin.errors import StateError
from fastav_plugin.functional.rollout import rollout_row
from fastav_plugin.layers.account import Account
from fastav_plugin.layers.tensor_parallel import ALONE, Ranks

#: Vectors that a rollout matrix is multiplied by from the left: the last token's, and ones.
_LAST, _ALL = "last", "all"


@dataclass(frozen=True)
class LayerAttention:
    """What one layer's attention was made of, as references and not copies.

    Attributes:
        query: [B, H, K, D], as it enters attention; drafted tokens are left out.
        keys: [B, G, n + K, D], tokens of earlier turns first: the KV cache's own.
        scaling: factor on the logits.
        index: int64 [B, K], of each token among the forward's; None for the first K of them.
        valid: bool [B, K], False for padding; None when every token is real.
        before: bool [B, n], validity of the tokens of earlier turns; None when all are real.
    """

    query: Tensor
    keys: Tensor
    scaling: float
    index: Tensor | None
    valid: Tensor | None
    before: Tensor | None

    @property
    def tokens(self) -> Tensor:
        """int64 [B], its real tokens, those of earlier turns included."""
        batch, _, count, _ = self.query.shape
        valid = self._valid(self.keys.shape[2] - count)
        if valid is not None:
            return valid.sum(dim=1)
        return torch.full((batch,), self.keys.shape[2], device=self.query.device)

    def narrow(self, vectors: Tensor) -> Tensor:
        """Of entries for all tokens of the forward, [M, B, W], those of this layer: [M, B, K]."""
        vectors = vectors.to(self.query.device)
        if self.index is None:
            found = vectors[:, :, : self.query.shape[2]]
        else:
            index = self.index.to(vectors.device)
            found = vectors.gather(2, index.expand(len(vectors), -1, -1))
        return found if self.valid is None else found * self.valid.to(found.device)

    def widen(self, vectors: Tensor, width: int) -> Tensor:
        """Inverse of `narrow`: [M, B, W], 0 for tokens that this layer does not hold."""
        wide = vectors.new_zeros((*vectors.shape[:2], width))
        if self.index is None:
            wide[:, :, : vectors.shape[2]] = vectors
            return wide
        # Padding points anywhere, so it must not count wherever that is.
        index = self.index.to(vectors.device).expand(len(vectors), -1, -1)
        return wide.scatter_add_(2, index, vectors)

    def roll(self, vectors: Tensor, alpha: float, ranks: Ranks) -> Tensor:
        """Each of [M, B, K] times this layer's rollout matrix; what reaches earlier turns is lost.

        Tokens of earlier turns get queries of zeros. Whatever they attend to, it lies before the
        turn, so no entry of the turn's own tokens comes from there.
        """
        past = self.keys.shape[2] - self.query.shape[2]
        query = torch.nn.functional.pad(self.query, (0, 0, past, 0)) if past else self.query
        vectors = torch.nn.functional.pad(vectors, (past, 0))
        valid = self._valid(past)
        rolled = [
            rollout_row(
                vectors[:, row],
                [query[row : row + 1]],
                [self.keys[row : row + 1]],
                alpha,
                valid=None if valid is None else valid[row : row + 1],
                scaling=self.scaling,
            )
            for row in range(query.shape[0])
        ]
        mean = ranks.mean(torch.stack(rolled, dim=1))
        assert mean is not None
        return mean[:, :, past:]

    def _valid(self, past: int) -> Tensor | None:
        """Bool [B, n + K] for tokens of earlier turns and of this one."""
        if self.valid is None and self.before is None:
            return None
        batch, _, count, _ = self.query.shape
        device = self.query.device
        parts = [(self.before, past), (self.valid, count)]
        return torch.cat(
            [
                torch.ones((batch, width), dtype=torch.bool, device=device)
                if part is None
                else part.to(device)
                for part, width in parts
            ],
            dim=1,
        )


class Rollout:
    """Exact attention rollout through all layers below one place, computed when it is read.

    R = Ã_l-1 ... Ã_0 over the layers 0..l-1 below place l, with Ã = alpha A + (1 - alpha) I and A
    the head mean of a layer's attention. No n x n matrix is made, so reading takes time (about
    that of the attention itself for each layer, anew for every read) but little memory.

    Entries belong to the survivors at the place: float32 [B, T]; padding, drafted tokens and all
    that later turns could never see are 0. Where a cut lies between the layers, a dropped token is
    not in A from there on: R maps the survivors to all tokens that entered layer 0, and only the
    survivors are shown. In a later turn R is over that turn's tokens; attention to earlier turns
    leaves it, so each of its lines sums to less than one.

    It can be read while the hook is called, not later.

    Reference: FastAV, section 2.1; Abnar and Zuidema (2020).
    """

    def __init__(
        self,
        layers: Sequence[LayerAttention],
        width: int,
        drafted: int,
        ranks: Ranks = ALONE,
        account: Account | None = None,
    ) -> None:
        self._layers: Sequence[LayerAttention] | None = layers
        self._width = width
        self._drafted = drafted
        self._ranks = ranks
        self._account = account

    def __len__(self) -> int:
        """Layers that the rollout goes through."""
        return len(self._open())

    def last_row(self, alpha: float = 0.5) -> Tensor:
        """What the last prompt token is made of: R's last line, float32 [B, T]; sums to one."""
        return self._read(alpha, _LAST)[0]

    def column_sums(self, alpha: float = 0.5) -> Tensor:
        """What each token gives to all survivors: R's column sums, float32 [B, T]."""
        return self._read(alpha, _ALL)[0]

    def by_depth(self, alpha: float = 0.5) -> tuple[Tensor, Tensor]:
        """`last_row` and `column_sums` for every depth, at little more cost than for one.

        Two float32 [l, B, T]: entry d - 1 is of the rollout through layers 0..d-1 alone.
        """
        both = self._read(alpha, _LAST, _ALL, every=True)
        return both[0::2], both[1::2]

    def counted(self) -> "Rollout":
        """One whose reads are counted as those of this one, and compute nothing."""
        return _Counted(self._open(), self._width, self._drafted, account=self._account)

    def close(self) -> None:
        """Let go of queries and keys."""
        self._layers = None

    def _open(self) -> Sequence[LayerAttention]:
        if self._layers is None:
            raise StateError("A view's `rollout` can be read only while the hook is called.")
        return self._layers

    def _read(self, alpha: float, *vectors: str, every: bool = False) -> Tensor:
        """Float32 [M, B, T], M the number of vectors, or [l * M, B, T] for every depth."""
        layers = self._open()
        for depth, layer in enumerate(reversed(layers), start=1):
            if self._account is not None:
                self._account.roll(layer.tokens, len(vectors) * (depth if every else 1))
        return self._roll(layers, alpha, vectors, every)

    def _roll(
        self, layers: Sequence[LayerAttention], alpha: float, vectors: Sequence[str], every: bool
    ) -> Tensor:
        top = layers[-1]
        found = self._first(top, vectors)
        for depth in range(len(layers), 0, -1):
            layer = layers[depth - 1]
            if every and layer is not top:
                # Vectors that begin lower go first; from here on all are rolled together.
                found = torch.cat([self._first(layer, vectors).to(found.device), found])
            rolled = layer.roll(layer.narrow(found), alpha, self._ranks)
            found = layer.widen(rolled, self._width)
        return torch.nn.functional.pad(top.narrow(found), (0, self._drafted))

    def _first(self, layer: LayerAttention, vectors: Sequence[str]) -> Tensor:
        """The vectors that begin at a layer: float32 [M, B, W]."""
        batch, _, count, _ = layer.query.shape
        found = torch.zeros((len(vectors), batch, count), device=layer.query.device)
        for vector, name in zip(found, vectors, strict=True):
            vector[:, count - 1 if name == _LAST else 0 :] = 1
        if layer.valid is not None:
            found = found * layer.valid.to(found.device)
        return layer.widen(found, self._width)


class _Counted(Rollout):
    """A rollout for dry runs: random shares, at the cost of the real ones in the account."""

    @override
    def _roll(
        self, layers: Sequence[LayerAttention], alpha: float, vectors: Sequence[str], every: bool
    ) -> Tensor:
        top = layers[-1]
        batch, _, count, _ = top.query.shape
        shape = (len(vectors) * (len(layers) if every else 1), batch, count)
        found = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(top.query.device)
        found = found if top.valid is None else found * top.valid.to(found.device)
        return torch.nn.functional.pad(found, (0, self._drafted))
