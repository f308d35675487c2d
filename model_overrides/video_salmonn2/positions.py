"""Rotary positions of 2+: as the model was trained, or as the authors' inference code has them.

A position is a column of time, height and width. Both are counted over one unpadded batch row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fastav_plugin.errors import TokenMapError

#: Kinds of token, as transformers numbers them in `mm_token_type_ids`.
TEXT, IMAGE, VIDEO, AUDIO = range(4)
#: Time positions of one second of a clip; also audio tokens of one second.
PER_SECOND = 2


@dataclass(frozen=True)
class Grid:
    """One picture or clip.

    Attributes:
        times: time grids; 1 for a picture.
        height: rows of tokens of one time grid.
        width: tokens of one row.
        seconds: of one time grid; 0 for a picture.
    """

    times: int
    height: int
    width: int
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Visual tokens."""
        return self.times * self.height * self.width

    def positions(self, device: torch.device) -> Tensor:
        """int64 [3, tokens], from 0."""
        sizes = (self.times, self.height, self.width)
        time, height, width = torch.meshgrid(
            [torch.arange(size, device=device) for size in sizes], indexing="ij"
        )
        time = (time * self.seconds * PER_SECOND).long()
        return torch.stack([time, height, width]).flatten(1)


#: Pictures and clips of a batch in order, by kind; each batch row takes its own.
Grids = Mapping[int, Iterator[Grid]]


def trained_positions(kinds: Tensor, grids: Grids) -> Tensor:
    """Positions with sound beside the pictures: its k-th token is at time and width k, height 0.

    Both start where the text before them ends; the text after them goes on from their last time.

    Args:
        kinds: int64 [T].
        grids: of the batch.

    Returns:
        int64 [3, T].

    Raises:
        TokenMapError: a clip's grid does not fit its placeholders.
    """
    found = torch.zeros((3, len(kinds)), dtype=torch.int64, device=kinds.device)
    written = start = 0
    for first, last in media_runs(kinds):
        start = _write_text(found, written, first, start)
        block, mine = found[:, first:last], kinds[first:last]
        sound = mine == AUDIO
        if not bool(sound.all()):
            grid = _next_grid(grids, int(mine[~sound][0]))
            if grid.tokens != int((~sound).sum()):
                raise TokenMapError(
                    f"The prompt holds {int((~sound).sum())} placeholders in a row for a medium "
                    f"of {grid.tokens} tokens. Let the processor make the prompt."
                )
            block[:, ~sound] = grid.positions(kinds.device) + start
        order = torch.arange(int(sound.sum()), device=kinds.device)
        block[:, sound] = torch.stack([order, torch.zeros_like(order), order]) + start
        # Without sound the sides of a picture may reach further than its time.
        start = int((block[0] if len(order) else block).max()) + 1
        written = last
    _write_text(found, written, len(kinds), start)
    return found


def reference_positions(kinds: Tensor, grids: Grids) -> Tensor:
    """Positions that know no sound: a clip's grid is laid over as many tokens as it has.

    These begin at its first token and reach into the interleaved sound; what is left counts as
    text. A time grid takes one second, whatever it stands for.

    Args:
        kinds: int64 [T].
        grids: of the batch.

    Returns:
        int64 [3, T].
    """
    found = torch.zeros((3, len(kinds)), dtype=torch.int64, device=kinds.device)
    visual = (kinds == IMAGE) | (kinds == VIDEO)
    written = start = 0
    for run_first, run_last in media_runs(kinds):
        if not bool(visual[run_first:run_last].any()):
            continue
        first = written + int(visual[written:].long().argmax())
        grid = _next_grid(grids, int(kinds[first]))
        start = _write_text(found, written, first, start)
        one = Grid(grid.times, grid.height, grid.width, float(grid.seconds > 0))
        written = first + grid.tokens
        found[:, first:written] = one.positions(kinds.device)[:, : len(kinds) - first] + start
        start = int(found[:, first:written].max()) + 1
    _write_text(found, written, len(kinds), start)
    return found


def media_runs(kinds: Tensor) -> list[tuple[int, int]]:
    """First and one past the last of each unbroken run of media, int64 [T]."""
    media = torch.nn.functional.pad((kinds != TEXT).long(), (1, 1))
    edges = (media[1:] - media[:-1]).nonzero().flatten().tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _write_text(found: Tensor, first: int, last: int, start: int) -> int:
    """Count on over text; returns the next position."""
    count = max(0, last - first)
    found[:, first:last] = torch.arange(count, device=found.device) + start
    return start + count


def _next_grid(grids: Grids, kind: int) -> Grid:
    grid = next(grids[kind], None)
    if grid is None:
        raise TokenMapError(
            "The prompt holds placeholders of more pictures or clips than sizes were given. Make "
            "both with one call of the processor."
        )
    return grid
