"""What each position of a prompt is: padding, text, or a token of some medium.

Modalities are masks over positions, never ranges: several families interleave audio with video.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from fastav_plugin.errors import TokenMapError


class Modality(IntEnum):
    """Kind of one prompt position. Values above TEXT are media."""

    PADDING = 0
    TEXT = 1
    IMAGE = 2
    VIDEO = 3
    AUDIO = 4

    def __repr__(self) -> str:
        return f"Modality.{self.name}"


Spans = Iterable[tuple[int, int]]


@dataclass(frozen=True, eq=False, repr=False)
class TokenMap:
    """Modality, media segment and frame of every prompt position.

    Models of known families need none: their `input_ids` say what is what. Two maps are equal if
    their tensors are.

        >>> tokens = TokenMap.from_spans(100, video=[(4, 68)], audio=[(68, 92)])
        >>> tokens
        TokenMap(1 row of 100: 12 text, 64 video, 24 audio tokens)
        >>> int(tokens.media.sum())
        88

    Attributes:
        modality: uint8 [B, T], values of `Modality`.
        segment: int64 [B, T], index of the medium (an image, a clip, a sound) within its row,
            -1 outside media.
        frame: int64 [B, T], index of the video frame (or time grid) within its row, counted
            over all its media; for audio interleaved with video the frame it sounds with; -1
            where frames are unknown or have no meaning.
    """

    modality: Tensor
    segment: Tensor
    frame: Tensor

    def __post_init__(self) -> None:
        shapes = {tuple(t.shape) for t in (self.modality, self.segment, self.frame)}
        if len(shapes) != 1 or self.modality.dim() != 2:
            raise TokenMapError(
                f"A TokenMap needs three tensors of one shape [B, T], got {sorted(shapes)}."
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TokenMap):
            return NotImplemented
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return all(torch.equal(mine, theirs.to(mine.device)) for mine, theirs in pairs)

    def __hash__(self) -> int:
        return hash(self.modality.shape)

    def __repr__(self) -> str:
        """How many tokens of each modality, in as many rows of that length."""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"TokenMap({rows} of {self.length}: {counted(self.modality)})"

    @classmethod
    def from_spans(
        cls,
        length: int,
        *,
        image: Spans = (),
        video: Spans = (),
        audio: Spans = (),
        tokens_per_frame: int | None = None,
    ) -> TokenMap:
        """Map of one unpadded prompt, of one row, from half-open spans `(start, stop)`.

        Args:
            length: prompt length T.
            image: spans of images; every span is one segment.
            video: spans of clips.
            audio: spans of sounds.
            tokens_per_frame: when given, splits each video span into frames of that many tokens.

        Raises:
            TokenMapError: a span outside [0, length), empty, or overlapping another.
        """
        frame_size = 1 if tokens_per_frame is None else tokens_per_frame
        if not isinstance(length, int) or min(length, frame_size) < 1:
            raise TokenMapError(
                f"`length` and `tokens_per_frame` must be integers of at least 1, got {length!r} "
                f"and {tokens_per_frame!r}."
            )
        modality = torch.full((1, length), int(Modality.TEXT), dtype=torch.uint8)
        segment = torch.full((1, length), -1, dtype=torch.int64)
        frame = torch.full((1, length), -1, dtype=torch.int64)
        named = [(Modality.IMAGE, image), (Modality.VIDEO, video), (Modality.AUDIO, audio)]
        spans = sorted((*span, kind) for kind, spans in named for span in _pairs(kind, spans))
        frames = 0
        end = 0
        for index, (start, stop, kind) in enumerate(spans):
            if not 0 <= start < stop <= length:
                raise TokenMapError(
                    f"{kind.name.lower()} span ({start}, {stop}) does not lie in (0, {length})."
                )
            if start < end:
                raise TokenMapError(f"Span ({start}, {stop}) overlaps the one before it.")
            end = stop
            modality[0, start:stop] = int(kind)
            segment[0, start:stop] = index
            if tokens_per_frame and kind is Modality.VIDEO:
                frame[0, start:stop] = frames + torch.arange(stop - start) // tokens_per_frame
                frames = int(frame[0, stop - 1]) + 1
        return cls(modality, segment, frame)

    @classmethod
    def batch(cls, maps: Sequence[TokenMap], padding_side: str = "left") -> TokenMap:
        """Stack maps of different lengths into one padded batch.

        Args:
            maps: TokenMaps of any number of rows.
            padding_side: "left" (what generate needs) or "right".
        """
        if padding_side not in ("left", "right"):
            raise TokenMapError(f"`padding_side` must be 'left' or 'right', got {padding_side!r}.")
        if not maps or not all(isinstance(item, TokenMap) for item in maps):
            raise TokenMapError("`TokenMap.batch` takes a list of at least one TokenMap.")
        length = max(item.length for item in maps)
        padded = [item._pad(length - item.length, padding_side) for item in maps]
        columns = zip(*((item.modality, item.segment, item.frame) for item in padded), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    @classmethod
    def from_placeholders(
        cls,
        input_ids: Tensor,
        placeholders: Mapping[int, Modality],
        attention_mask: Tensor | None = None,
    ) -> TokenMap:
        """Map of prompts in which every media token stands as one placeholder id.

        A segment is an unbroken run of one modality; frames stay unknown.

        Args:
            input_ids: int64 [B, T].
            placeholders: modality of each placeholder id.
            attention_mask: [B, T], 0 for padding; None means no padding.
        """
        modality = torch.full_like(input_ids, int(Modality.TEXT), dtype=torch.uint8)
        for token_id, kind in placeholders.items():
            modality.masked_fill_(input_ids == token_id, int(kind))
        if attention_mask is not None:
            modality.masked_fill_(attention_mask.to(modality.device) == 0, int(Modality.PADDING))
        return cls(modality, _runs(modality), torch.full_like(input_ids, -1))

    @property
    def rows(self) -> int:
        """Batch rows B."""
        return self.modality.shape[0]

    @property
    def length(self) -> int:
        """Positions T of each row, padding included."""
        return self.modality.shape[1]

    @property
    def media(self) -> Tensor:
        """Bool [B, T], True for image, video and audio tokens."""
        return self.modality > int(Modality.TEXT)

    @property
    def valid(self) -> Tensor:
        """Bool [B, T], False for padding."""
        return self.modality != int(Modality.PADDING)

    def mask(self, *modalities: Modality) -> Tensor:
        """Bool [B, T], True where a position has one of the given modalities."""
        found = torch.zeros_like(self.modality, dtype=torch.bool)
        for modality in modalities:
            found |= self.modality == int(modality)
        return found

    def with_frames(self, frame: Tensor) -> TokenMap:
        """The same map with other frames (int64 [B, T])."""
        return replace(self, frame=frame)

    def one_segment_per_run(self) -> TokenMap:
        """The same map, each unbroken run of media of any kinds one segment: a clip's sound too."""
        return replace(self, segment=_runs(self.media.to(torch.uint8) * int(Modality.IMAGE)))

    def to(self, device: torch.device | str) -> TokenMap:
        """The same map on another device."""
        return self.map_rows(lambda tensor: tensor.to(device))

    def select(self, rows: Tensor) -> TokenMap:
        """Batch rows by index, as `Cache.batch_select_indices` moves them."""
        return self.map_rows(lambda tensor: tensor[rows.to(tensor.device)])

    def repeat_interleave(self, repeats: int) -> TokenMap:
        """Each batch row `repeats` times, as generate expands rows for beams."""
        return self.map_rows(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def extend(self, count: int) -> TokenMap:
        """Append text positions, as drafted tokens are appended to a prompt."""
        return self._pad(count, "right", Modality.TEXT)

    def first(self, length: int) -> TokenMap:
        """The map of the first `length` positions."""
        return self.map_rows(lambda tensor: tensor[:, :length])

    def last(self, length: int) -> TokenMap:
        """The map of the last `length` positions."""
        return self.map_rows(lambda tensor: tensor[:, self.length - length :])

    def followed_by(self, later: TokenMap) -> TokenMap:
        """The map of these positions and of a later turn's; segments and frames count on."""
        later = later.to(self.modality.device)
        joined = [torch.cat([self.modality, later.modality], dim=1)]
        for known, new in ((self.segment, later.segment), (self.frame, later.frame)):
            start = known.amax(dim=1, keepdim=True) + 1
            joined.append(torch.cat([known, torch.where(new < 0, new, new + start)], dim=1))
        return TokenMap(*joined)

    def padded(self, padding: Tensor) -> TokenMap:
        """The same map with padding where `padding` (bool [B, T]) is True."""
        padding = padding.to(self.modality.device)
        return TokenMap(
            self.modality.masked_fill(padding, int(Modality.PADDING)),
            self.segment.masked_fill(padding, -1),
            self.frame.masked_fill(padding, -1),
        )

    def fit(self, rows: int, length: int, drafted: int) -> TokenMap:
        """Fit a caller's map to a forward batch of `rows` prompts of `length` positions.

        Args:
            rows: batch rows of the forward (B times beams or returned sequences).
            length: positions of the forward, drafted tokens included.
            drafted: trailing positions that a draft added to the prompt.

        Raises:
            TokenMapError: the map is of another prompt.
        """
        if self.length not in (length, length - drafted):
            raise TokenMapError(
                f"The TokenMap describes {self.length} positions, the prompt has "
                f"{length - drafted}. Make it from the same input_ids, padding included."
            )
        if rows % self.rows:
            raise TokenMapError(
                f"The TokenMap has {self.rows} rows, the batch has {rows}; "
                f"allowed is the number of prompts or a divisor of it."
            )
        return self.repeat_interleave(rows // self.rows).extend(length - self.length)

    def map_rows(self, function: Callable[[Tensor], Tensor]) -> TokenMap:
        """Apply one function of batch rows to all three tensors."""
        return TokenMap(function(self.modality), function(self.segment), function(self.frame))

    def _pad(self, count: int, side: str, kind: Modality = Modality.PADDING) -> TokenMap:
        if count == 0:
            return self
        pads = (count, 0) if side == "left" else (0, count)
        pad = torch.nn.functional.pad
        return TokenMap(
            pad(self.modality, pads, value=int(kind)),
            pad(self.segment, pads, value=-1),
            pad(self.frame, pads, value=-1),
        )


def counted(modality: Tensor) -> str:
    """How many positions of each modality there are, in words: "12 text, 64 video tokens"."""
    names = {kind: kind.name.lower() for kind in (*list(Modality)[1:], Modality.PADDING)}
    counts = {name: int((modality == int(kind)).sum()) for kind, name in names.items()}
    padding = counts.pop("padding")
    media = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    found = [f"{media} tokens"] if media else []
    return ", ".join([*found, *([f"{padding} padding"] if padding else [])]) or "no tokens"


def _pairs(kind: Modality, spans: Spans) -> list[tuple[int, int]]:
    """The spans of one medium, each a pair of integers."""
    try:
        return [(operator.index(start), operator.index(stop)) for start, stop in spans]
    except (TypeError, ValueError) as error:
        raise TokenMapError(
            f"`{kind.name.lower()}` takes a list of (start, stop) pairs of integers such as "
            f"[(14, 690)], got {spans!r}."
        ) from error


def _runs(modality: Tensor) -> Tensor:
    """Number the unbroken runs of each media modality within its row: int64 [B, T]."""
    media = modality > int(Modality.TEXT)
    before = torch.nn.functional.pad(modality, (1, 0))[:, :-1]
    starts = media & (modality != before)
    return torch.where(media, starts.long().cumsum(dim=1) - 1, -1)
