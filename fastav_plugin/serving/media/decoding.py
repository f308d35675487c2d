"""Untrusted media into pictures, frames and samples, by the reader that commands use."""

from dataclasses import dataclass
from typing import Any

from fastav_plugin.media.clips import read_video
from fastav_plugin.media.pictures import read_image
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform, read_sound
from fastav_plugin.serving.media.measuring import EACH_HALF_SECOND, Sampling, measure, refusing
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy


@dataclass(frozen=True)
class Sound:
    """One channel.

    Attributes:
        waveform: float32 [n] in [-1, 1].
        sample_rate: samples per second.
    """

    waveform: Waveform
    sample_rate: int = SAMPLE_RATE


def decode(
    kind: str, data: bytes, policy: MediaPolicy, sampling: Sampling = EACH_HALF_SECOND
) -> Any:
    """Decode an untrusted medium, after it was measured.

    Args:
        kind: "image", "video" or "audio".
        data: the medium as it is encoded.
        policy: how large it may be.
        sampling: what is taken of a video.

    Returns:
        PIL.Image.Image in RGB, Video or Sound.

    Raises:
        MediaError: it is too large, or damaged.
        UnsupportedError: what reads media is not installed.
    """
    measured = measure(kind, data, policy, sampling)
    with refusing(kind):
        if kind == "image":
            from PIL import Image

            return Image.fromarray(read_image(measured.source))
        if kind == "video":
            return read_video(measured.clip or measured.source, sampling.fps, sampling.max_frames)
        (waveform,) = read_sound(measured.source)
    if not len(waveform):
        raise MediaError("no sound can be decoded from it.")
    return Sound(waveform)
