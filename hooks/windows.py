"""Windows: the rows of a batch in groups that are pruned apart from each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastav_plugin.errors import ConfigError
from fastav_plugin.functional.diversity import pick_in_groups
from fastav_plugin.hooks.base import LayerView

#: One frame or image; one unbroken run of media; so many tokens in a row; None is the sample.
Window = str | int | None

_NAMES = ("frame", "segment")


def check_window(window: Window) -> None:
    """Refuse what is no window.

    Raises:
        ConfigError: neither a known name, nor a positive number, nor None.
    """
    number = isinstance(window, int) and not isinstance(window, bool) and window > 0
    if not (window is None or number or window in _NAMES):
        raise ConfigError(
            f"`window` must be 'frame', 'segment', a positive number of tokens or None, "
            f"got {window!r}."
        )


@dataclass(frozen=True)
class Windows:
    """Groups of rows, each with a number of rows to keep.

    A sample's windows share what the sample as a whole keeps, `max(1, round(ratio * M))`, in
    proportion to their sizes: the first n of them together keep what one window of their rows
    would.

    Attributes:
        rows: int64 [N, M], index into the B * T rows of the view, in prompt order; where a window
            has fewer than M rows its last is repeated.
        sizes: int64 [N], on the CPU.
        quotas: int64 [N], on the CPU, rows to keep.
    """

    rows: Tensor
    sizes: Tensor
    quotas: Tensor

    @classmethod
    def of(cls, view: LayerView, candidates: Tensor, window: Window, ratio: float) -> Windows:
        """Cut the candidates (bool [B, T]) of each sample into windows; none give no windows."""
        # What follows decides on shapes, so it is done on the CPU, at the price of one wait.
        sample, place = candidates.cpu().nonzero().T.contiguous()
        keys = [sample]
        first = torch.searchsorted(sample, sample)  # of the candidate's sample
        rank = torch.arange(len(sample)) - first
        if isinstance(window, int):
            keys.append(rank // window)
        elif window is not None:
            keys.append(view.segment.cpu()[sample, place])
            if window == "frame":
                keys.append(view.frame.cpu()[sample, place])
        _, numbers, sizes = torch.unique_consecutive(
            torch.stack(keys), dim=1, return_inverse=True, return_counts=True
        )
        ends = sizes.cumsum(0)
        upto = (rank[ends - 1] + 1).double().mul(ratio).round().long().clamp(min=1)
        begins_sample = rank[ends - sizes] == 0
        before = upto.roll(1).masked_fill(begins_sample, 0)
        most = int(sizes.max()) if len(sizes) else 0
        index = (ends - sizes)[:, None] + torch.arange(most).clamp(max=sizes[:, None] - 1)
        flat = sample * candidates.shape[1] + place
        return cls(flat[index].to(candidates.device), sizes, upto - before)

    @property
    def valid(self) -> Tensor | None:
        """Bool [N, M], False where a window is over; None where all are equally long."""
        most = self.rows.shape[1]
        if bool((self.sizes == most).all()):
            return None
        return (torch.arange(most) < self.sizes[:, None]).to(self.rows.device)

    def picks(self, features: Tensor) -> Tensor:
        """Rows of the view that max-min diversity picks, each window's quota of its own.

        Args:
            features: [B * T, C].

        Returns:
            int64 [sum of quotas].
        """
        picks = pick_in_groups(features, self.rows, self.valid, int(self.quotas.max()))
        counted = torch.arange(picks.shape[1]) < self.quotas[:, None]
        return self.rows.gather(1, picks)[counted.to(picks.device)]
