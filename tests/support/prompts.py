"""Prompts built piece by piece, with what every token is known by construction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastav_plugin import Modality

#: One vocabulary for every tiny model: 1..79 are words, the rest has a meaning.
VOCABULARY = 99
PAD = 0
IMAGE, VIDEO, AUDIO = 90, 91, 92
VISION_START, VISION_END, AUDIO_START, AUDIO_END = 93, 94, 95, 96
#: Ids that generation must not produce: a placeholder would ask for a medium.
SUPPRESSED = [PAD, *range(80, VOCABULARY)]

KINDS = {IMAGE: Modality.IMAGE, VIDEO: Modality.VIDEO, AUDIO: Modality.AUDIO}


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens of one prompt.

    Attributes:
        ids: token ids.
        frames: video frame of each token, counted from the piece's start; -1 for none.
        media: model inputs, joined along dimension 0 over the whole batch.
        kind: what the tokens are, where their ids do not say it.
    """

    ids: list[int]
    frames: list[int]
    media: dict[str, Tensor] = field(default_factory=dict)
    kind: Modality | None = None

    @property
    def kinds(self) -> list[Modality]:
        return [self.kind or KINDS.get(token, Modality.TEXT) for token in self.ids]


@dataclass(frozen=True)
class Row:
    """One unpadded prompt."""

    pieces: tuple[Piece, ...]

    @property
    def ids(self) -> list[int]:
        return [token for piece in self.pieces for token in piece.ids]

    @property
    def kinds(self) -> list[Modality]:
        return [kind for piece in self.pieces for kind in piece.kinds]

    @property
    def frames(self) -> list[int]:
        found: list[int] = []
        offset = 0
        for piece in self.pieces:
            found += [frame + offset if frame >= 0 else -1 for frame in piece.frames]
            offset += max(piece.frames) + 1
        return found

    def __len__(self) -> int:
        return len(self.ids)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def words(seed: int, count: int) -> Piece:
    ids = torch.randint(1, 80, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Piece(ids, [-1] * count)


def special(*ids: int) -> Piece:
    return Piece(list(ids), [-1] * len(ids))


def tokens(kind: int, frames: Iterable[int], **media: Tensor) -> Piece:
    listed = list(frames)
    return Piece([kind] * len(listed), listed, media)


def row(*pieces: Piece) -> Row:
    return Row(pieces)


def lengthen(shorter: Row, length: int) -> Row:
    """The same prompt with more words in front."""
    return Row((words(length, length - len(shorter)), *shorter.pieces))


Extra = Callable[[Tensor], dict[str, Tensor]]


def type_ids(name: str) -> Extra:
    """Token types as the processors make them: 1 image, 2 video."""

    def extra(ids: Tensor) -> dict[str, Tensor]:
        return {name: (ids == IMAGE).long() + 2 * (ids == VIDEO).long()}

    return extra


def collate(rows: Iterable[Row], extra: Extra | None = None, **constant: Any) -> dict[str, Any]:
    """Left-padded model inputs of several prompts.

    Args:
        rows: the prompts.
        extra: makes more inputs from the padded `input_ids`.
        constant: inputs that do not depend on the prompts.
    """
    rows = list(rows)
    longest = max(len(item) for item in rows)
    ids = torch.tensor([[PAD] * (longest - len(item)) + item.ids for item in rows])
    inputs: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.tensor(
            [[0] * (longest - len(item)) + [1] * len(item) for item in rows]
        ),
    }
    media: dict[str, list[Tensor]] = {}
    for item in rows:
        for piece in item.pieces:
            for name, tensor in piece.media.items():
                media.setdefault(name, []).append(tensor)
    inputs |= {name: torch.cat(found) for name, found in media.items()}
    if extra is not None:
        inputs |= extra(ids)
    return inputs | constant
