"""Which picture or frame a visual token belongs to, where in it, and what lies beside it.

A LayerView knows segments and frames, and not how many patches a line has: whoever needs lines is
told. It cannot be guessed from the size, as 144 patches are 12 x 12, or 9 x 16 of a wide picture.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastav_plugin.functional.neighbours import share_in_sequence, share_on_grids
from fastav_plugin.hooks.base import VISUAL, LayerView
from fastav_plugin.tokens import Modality


@dataclass(frozen=True)
class Pictures:
    """Pictures, frames and clips without known frames, each a run of a batch row's visual tokens.

    A picture or a frame whose tokens are all there and fill lines of the given length is a grid; of
    others, and of clips without known frames, only the order is known.

    Attributes:
        number: int64 [B, T], picture of each visual token in prompt order, counted over the whole
            batch; -1 elsewhere.
        cell: int64 [B, T], place in the picture, in prompt positions from its first survivor.
        lines: int64 [B, T], lines of the picture; 0 where it is no grid.
    """

    number: Tensor
    cell: Tensor
    lines: Tensor

    @classmethod
    def of(cls, view: LayerView, columns: int | None = None) -> "Pictures":
        """The pictures of a view, with lines of `columns` patches if that is known.

        A new picture begins wherever segment or frame changes.
        """
        visual = view.mask(*VISUAL)
        index = visual.flatten().nonzero().squeeze(1)
        batch_row = index // visual.shape[1]
        position = view.positions.flatten()[index]
        keys = [batch_row, view.segment.flatten()[index], view.frame.flatten()[index]]
        begins = torch.ones_like(index, dtype=torch.bool)
        begins[1:] = torch.stack([key[1:] != key[:-1] for key in keys]).any(dim=0)
        number = begins.long().cumsum(dim=0) - 1
        first = position[begins][number]
        sizes = torch.bincount(number)
        last = begins.roll(-1)
        whole = position[last] - position[begins] + 1 == sizes
        picture = (view.modality.flatten()[index] == int(Modality.IMAGE)) | (keys[2] >= 0)
        lines = torch.zeros_like(sizes)
        if columns is not None:
            grid = whole & picture[begins] & (sizes % columns == 0)
            lines = torch.where(grid, sizes // columns, 0)

        def spread(values: Tensor, fill: int) -> Tensor:
            found = torch.full_like(visual, fill, dtype=torch.int64).flatten()
            return found.index_copy_(0, index, values).view_as(visual)

        return cls(spread(number, -1), spread(position - first, 0), spread(lines[number], 0))


def scores_with_neighbours(view: LayerView, reach: int, columns: int | None = None) -> Tensor:
    """The view's scores, where what lies beside an attended media token shares 0.9 of its score.

    On a grid of patches that is what lies within `reach` lines and columns, elsewhere within
    `reach` positions of the same segment and modality.

    Args:
        view: with scores.
        reach: at least 0.
        columns: patches of a picture's line; None where there are no grids.

    Returns:
        float32 [B, T].
    """
    assert view.scores is not None
    lines = Pictures.of(view, columns).lines
    kind = view.modality.long() + (view.segment + 1) * len(Modality)
    groups = torch.where(view.media & (lines == 0), kind, -1)
    scores = share_in_sequence(view.scores, view.positions, groups, reach)
    if columns is None:
        return scores
    for number in torch.unique(lines).tolist():
        if number > 0:
            patches = lines == number
            grids = view.scores[patches].view(-1, number, columns)
            scores[patches] = share_on_grids(grids, reach).flatten()
    return scores
