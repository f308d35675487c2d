"""Media named in the text of a request, and what a server may read for them.

TGI hands pictures over for a few families and no sound or video for any. In the text of a request
`![](source)`, `<video>source</video>` and `<audio>source</audio>` name a medium; `source` is a path
below the media folder, a `data:` URI, or an http(s) address of an allowed host.
"""

from __future__ import annotations


import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.errors import ConfigError, FastAVError

Frames = npt.NDArray[np.uint8]
Waveform = npt.NDArray[np.float32]


class MediaError(FastAVError, ValueError):
    """A medium of a request that may not, or cannot, be read: the request's fault, not ours."""


@dataclass(frozen=True)
class MediaPolicy:
    """What requests may name, and how large it may be. The default allows `data:` URIs alone.

    Attributes:
        media_dir: folder that files are read from; None for no files.
        allowed_hosts: names of hosts that http(s) addresses may have; empty for none.
        max_bytes: of one medium, encoded.
        max_pixels: of one picture or frame.
        max_frames: of one video, as encoded.
        max_seconds: of one video or sound.
        max_decoded_bytes: of the frames taken from one video, or of one sound.
        timeout: seconds that one download may take altogether.
        max_redirects: followed, each of them checked like the first address.
        allow_private: whether allowed hosts may have private addresses: for closed networks and
            tests. The allowlist still holds.
    """

    media_dir: Path | None = None
    allowed_hosts: frozenset[str] = frozenset()
    max_bytes: int = 64 * 2**20
    max_pixels: int = 2**25
    max_frames: int = 18_000
    max_seconds: float = 600.0
    max_decoded_bytes: int = 2**30
    timeout: float = 20.0
    max_redirects: int = 3
    allow_private: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> MediaPolicy:
        """Read FASTAV_MEDIA_DIR, FASTAV_MEDIA_HOSTS and the limits.

        Args:
            environment: None for the process's own.

        Raises:
            ConfigError: a value that is none, or a folder that does not exist.
        """
        raise ConfigError("not yet")


@dataclass(frozen=True)
class Reference:
    """A medium named in a text.

    Attributes:
        kind: "image", "video" or "audio".
        source: a path, a `data:` URI or an http(s) address.
    """

    kind: str
    source: str


@dataclass(frozen=True)
class Video:
    """Pictures of a clip, and its sound.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB, T even.
        fps: frames per second of `frames`.
        waveform: float32 [n] at 16 kHz, the clip's own sound; None without, or where silent.
    """

    frames: Frames
    fps: float
    waveform: Waveform | None = None


@dataclass(frozen=True)
class Sound:
    """One channel.

    Attributes:
        waveform: float32 [n] in [-1, 1].
        sample_rate: samples per second; 16000.
    """

    waveform: Waveform
    sample_rate: int = 16_000


_REFERENCE = re.compile(
    r"!\[[^\]]*\]\(\s*(?P<image>[^)]*?)\s*\)"
    r"|<video>\s*(?P<video>[^<]*?)\s*</video>"
    r"|<audio>\s*(?P<audio>[^<]*?)\s*</audio>"
)


def split_references(text: str) -> list[str | Reference]:
    """Split a text at the media it names.

    Args:
        text: as the client sent it.

    Returns:
        texts (never empty) and references in their order; joined they cover the whole text.
    """
    pieces: list[str | Reference] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        pieces += [text[end : found.start()]] if found.start() > end else []
        kind = str(found.lastgroup)
        pieces.append(Reference(kind, found[kind]))
        end = found.end()
    return pieces + ([text[end:]] if end < len(text) else [])


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
    """
    raise MediaError("not yet")


