"""What the media of one request may take together: limits of each alone bound no request."""

import dataclasses
import time
from typing import Any

from fastav_plugin.media.clips import Video
from fastav_plugin.media.files import Source
from fastav_plugin.serving.media.decoding import Sound, decode
from fastav_plugin.serving.media.measuring import EACH_HALF_SECOND, Sampling, measure
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy, variable
from fastav_plugin.serving.media.references import Reference, named
from fastav_plugin.serving.media.sources import read_source


class MediaBudget:
    """Reads the media of one request, each within what those before it left.

    Args:
        policy: of the server.
    """

    def __init__(self, policy: MediaPolicy) -> None:
        self._policy = policy
        self._media = 0
        self._bytes = 0
        self._seconds = 0.0

    def load(self, reference: Reference, sampling: Sampling = EACH_HALF_SECOND) -> Any:
        """Read and decode what a reference names.

        Args:
            reference: what `split_references` found.
            sampling: what is taken of a video.

        Returns:
            PIL.Image.Image in RGB for "image", Video for "video", Sound for "audio".

        Raises:
            MediaError: it may not be read, is too large or damaged, or the request names more than
                is allowed.
            UnsupportedError: what reads media is not installed.
        """
        with named(reference):
            return self._decode(reference.kind, self._read(reference), sampling)

    def source(self, reference: Reference) -> Source:
        """Read and measure what a reference names, for a processor that samples files itself.

        Raises:
            MediaError, UnsupportedError: as `load`.
        """
        with named(reference):
            data = self._read(reference)
            measured = measure(reference.kind, data, self._left())
            self._bytes += measured.size
            return measured.source

    def picture(self, data: bytes) -> Any:
        """Decode a picture that is part of the request.

        Raises:
            MediaError: it is too large or damaged, or the request has more than is allowed.
        """
        self._count()
        return self._decode("image", data, EACH_HALF_SECOND)

    def _read(self, reference: Reference) -> bytes:
        self._count()
        left = self._policy.timeout - self._seconds
        if left <= 0:
            raise MediaError(
                f"reading the media of this request took more than {self._policy.timeout:g} s.",
                reason="limit",
            )
        start = time.monotonic()
        policy = dataclasses.replace(self._policy, timeout=left)
        data = read_source(reference.kind, reference.source, policy)
        self._seconds += time.monotonic() - start
        return data

    def _count(self) -> None:
        self._media += 1
        if self._media > self._policy.max_per_request:
            most = self._policy.max_per_request
            raise MediaError(
                f"the request has more than the {most} media that are allowed "
                f"({variable('max_per_request')}).",
                reason="limit",
            )

    def _decode(self, kind: str, data: bytes, sampling: Sampling) -> Any:
        medium = decode(kind, data, self._left(), sampling)
        self._bytes += _size(medium)
        return medium

    def _left(self) -> MediaPolicy:
        """The policy, less what the media so far take."""
        left = self._policy.max_decoded_bytes - self._bytes
        if left <= 0:
            raise MediaError(
                f"the media of this request have more than the {self._policy.max_decoded_bytes} "
                f"decoded bytes that are allowed ({variable('max_decoded_bytes')}).",
                reason="limit",
            )
        return dataclasses.replace(self._policy, max_decoded_bytes=left)


def _size(medium: Any) -> int:
    """Bytes that a decoded medium takes."""
    if isinstance(medium, Video):
        sound = 0 if medium.waveform is None else medium.waveform.nbytes
        return medium.frames.nbytes + sound
    if isinstance(medium, Sound):
        return medium.waveform.nbytes
    return int(medium.width * medium.height * 3)
