"""Windows: the tokens of a batch in groups that DivPrune prunes apart from each other."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fastav_plugin.errors import ConfigError
from fastav_plugin.functional.diversity import pick_in_groups
from fastav_plugin.functional.top_k import counts_of
from fastav_plugin.hooks.base import LayerView

#: One frame or image; one unbroken run of media; so many consecutive tokens; None is the sample.
Window = str | int | None


def check_window(window: Window) -> None:
    """Refuse anything but a known name, a positive number or None."""
    number = isinstance(window, int) and not isinstance(window, bool) and window > 0
    if not (window is None or number or window in ("frame", "segment")):
        raise ConfigError(
            f"`window` must be 'frame', 'segment', a positive number of tokens or None, "
            f"got {window!r}."
        )


@dataclass(frozen=True)
class Windows:
    """Groups of tokens, each with a number of tokens to keep.

    A sample's windows share what the sample as a whole keeps, `max(1, round(ratio * M))`, in
    proportion to their sizes: the first n of them together keep what one window of their tokens
    would.

    Attributes:
        tokens: int64 [N, M], index into the B * T tokens of the view, in prompt order; where a
            window has fewer than M tokens its last is repeated.
        sizes: int64 [N], on the CPU.
        quotas: int64 [N], on the CPU, tokens to keep.
    """

    tokens: Tensor
    sizes: Tensor
    quotas: Tensor

    @classmethod
    def of(cls, view: LayerView, candidates: Tensor, window: Window, ratio: float) -> Self:
        """Cut the candidates (bool [B, T]) of each sample into windows; none give no windows."""
        # Shapes depend on the values here, so it is done on the CPU, with one synchronization.
        sample, column = candidates.cpu().nonzero().T.contiguous()
        keys = [sample]
        first = torch.searchsorted(sample, sample)  # of the candidate's sample
        rank = torch.arange(len(sample)) - first
        if isinstance(window, int):
            keys.append(rank // window)
        elif window is not None:
            keys.append(view.segment.cpu()[sample, column])
            if window == "frame":
                keys.append(view.frame.cpu()[sample, column])
        _, sizes = torch.unique_consecutive(torch.stack(keys), dim=1, return_counts=True)
        ends = sizes.cumsum(0)
        upto = counts_of(rank[ends - 1] + 1, ratio)
        begins_sample = rank[ends - sizes] == 0
        before = upto.roll(1).masked_fill(begins_sample, 0)
        most = int(sizes.max()) if len(sizes) else 0
        index = (ends - sizes)[:, None] + torch.arange(most).clamp(max=sizes[:, None] - 1)
        flat = sample * candidates.shape[1] + column
        return cls(flat[index].to(candidates.device), sizes, upto - before)

    def picks(self, features: Tensor) -> Tensor:
        """What max-min diversity picks of features [B * T, C], by window: int64 [sum of quotas]."""
        within = torch.arange(self.tokens.shape[1]) < self.sizes[:, None]  # [N, M]
        valid = None if bool(within.all()) else within.to(self.tokens.device)
        picks = pick_in_groups(features, self.tokens, valid, int(self.quotas.max()))
        counted = torch.arange(picks.shape[1]) < self.quotas[:, None]
        return self.tokens.gather(1, picks)[counted.to(picks.device)]


def window_sizes(
    view: LayerView, candidates: Tensor, window: Window, ratio: float
) -> tuple[Tensor, Tensor]:
    """Sizes and quotas of `Windows.of` by batch row, without waiting for the device.

    Returns:
        Two int64 [B, T]: of each batch row's windows in prompt order; 0 where there is none.
    """
    rank = candidates.long().cumsum(dim=1) - 1
    if window is None:
        number = torch.zeros_like(rank)
    elif isinstance(window, int):
        number = rank // window
    else:
        frame = view.frame if window == "frame" else torch.zeros_like(view.frame)
        columns = torch.arange(rank.shape[1], device=rank.device).expand_as(rank)
        last = columns.masked_fill(~candidates, -1).cummax(dim=1).values.roll(1, dims=1)
        last[:, :1] = -1  # of each token, the candidate before it
        before = last.clamp(min=0)
        begins = (last < 0) | (view.segment.gather(1, before) != view.segment)
        begins |= frame.gather(1, before) != frame
        number = (candidates & begins).long().cumsum(dim=1) - 1
    sizes = torch.zeros_like(rank).scatter_add_(1, number.clamp(min=0), candidates.long())
    upto = counts_of(sizes.cumsum(dim=1), ratio)
    quotas = upto.diff(dim=1, prepend=torch.zeros_like(upto[:, :1]))
    return sizes, quotas
