"""Media named in the text of a request.

TGI hands pictures over for a few families and no sound or video for any. In the text of a request
`![](source)`, `<video>source</video>` and `<audio>source</audio>` name a medium; `source` is a path
below the media folder, a `data:` URI, or an http(s) address of an allowed host.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastav_plugin.serving.media.policy import MediaError


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


@contextmanager
def named(reference: Reference) -> Iterator[None]:
    """While inside, what is refused names the reference."""
    try:
        yield
    except MediaError as error:
        source = reference.source if len(reference.source) <= 80 else reference.source[:77] + "..."
        sentence = f"The {reference.kind} '{source}' was refused: {error}"
        raise MediaError(sentence, reason=error.reason) from error
