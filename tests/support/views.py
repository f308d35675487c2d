"""Hand-made LayerViews for tests of single hooks."""

import torch
from torch import Tensor

from fastav_plugin import LayerView, Modality

PAD, TEXT, IMAGE, VIDEO, AUDIO = (int(kind) for kind in Modality)

LETTERS = {".": PAD, "t": TEXT, "i": IMAGE, "v": VIDEO, "a": AUDIO}


def modalities(*rows: str) -> Tensor:
    """uint8 [B, T] from one letter per position: . t i v a."""
    return torch.tensor([[LETTERS[letter] for letter in row] for row in rows], dtype=torch.uint8)


def make_view(
    modality: Tensor,
    *,
    frame: list[list[int]] | None = None,
    scores: Tensor | None = None,
    positions: Tensor | None = None,
    start: Tensor | None = None,
    layer: int = 2,
    num_layers: int = 4,
) -> LayerView:
    """A view in which every token that is not padding survives."""
    alive = modality != PAD
    if positions is None:
        positions = torch.arange(modality.shape[1]).expand_as(modality).masked_fill(~alive, -1)
    if start is None:
        start = alive.long().argmax(dim=1)
    unknown = torch.full(modality.shape, -1)
    return LayerView(
        layer=layer,
        num_layers=num_layers,
        hidden_states=torch.zeros(*modality.shape, 4),
        positions=positions,
        start=start,
        modality=modality,
        segment=unknown,
        frame=unknown if frame is None else torch.tensor(frame),
        alive=alive,
        scores=scores,
    )


def shown(keep: Tensor | None, modality: Tensor) -> list[str]:
    """What a mask keeps, as letters; a dropped position is '-'."""
    assert keep is not None
    assert keep.dtype == torch.bool
    names = {value: letter for letter, value in LETTERS.items()}
    return [
        "".join(names[int(kind)] if kept else "-" for kind, kept in zip(kinds, row, strict=True))
        for kinds, row in zip(modality, keep, strict=True)
    ]
