"""Media named in the text of a request.

TGI hands pictures over for a few families and no sound or video for any. In the text of a request
`![](source)`, `<video>source</video>` and `<audio>source</audio>` name a medium; `source` is a path
below the media folder, a `data:` URI, or an http(s) address of an allowed host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastav_plugin.serving.media.decoding import Sound, Video, decode
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from fastav_plugin.serving.media.sources import read_source

__all__ = [
    "MediaError",
    "MediaPolicy",
    "Reference",
    "Sound",
    "Video",
    "decode",
    "load",
    "named",
    "split_references",
]


@dataclass(frozen=True)
class Reference:
    """A medium named in a text.

    Attributes:
        kind: "image", "video" or "audio".
        source: a path, a `data:` URI or an http(s) address.
    """

    kind: str
    source: str


# No part of a match goes past the beginning of the next one, or a text of many beginnings and no
# end would take time that grows with its square. A path may hold pairs of parentheses.
_REFERENCE = re.compile(
    r"!\[[^\[\]]*+\]\((?P<image>(?:[^()]++|\([^()]*+\))*+)\)"
    r"|<video>(?P<video>[^<]*+)</video>"
    r"|<audio>(?P<audio>[^<]*+)</audio>"
)


def split_references(text: str) -> list[str | Reference]:
    """Split a text at the media it names.

    Args:
        text: as the client sent it.

    Returns:
        texts, never empty, and references, in their order.
    """
    pieces: list[str | Reference] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        pieces.append(text[end : found.start()])
        kind = str(found.lastgroup)
        pieces.append(Reference(kind, found[kind].strip()))
        end = found.end()
    pieces.append(text[end:])
    return [piece for piece in pieces if piece != ""]


def load(
    reference: Reference,
    policy: MediaPolicy,
    *,
    fps: float = 2.0,
    max_frames: int | None = None,
) -> Any:
    """Read the medium of a reference.

    Args:
        reference: what `split_references` found.
        policy: what may be read.
        fps: frames taken of each second of a video.
        max_frames: take at most this many frames, spread evenly over the video.

    Returns:
        PIL.Image.Image in RGB for "image", Video for "video", Sound for "audio".

    Raises:
        MediaError: it may not be read, is too large, or is damaged.
        UnsupportedError: what reads media is not installed.
    """
    with named(reference):
        data = read_source(reference.kind, reference.source, policy)
        return decode(reference.kind, data, policy, fps=fps, max_frames=max_frames)


@contextmanager
def named(reference: Reference) -> Iterator[None]:
    """While inside, what is refused names the reference."""
    try:
        yield
    except MediaError as error:
        source = reference.source if len(reference.source) <= 80 else reference.source[:77] + "..."
        raise MediaError(f"The {reference.kind} '{source}' was refused: {error}") from error
