"""What media would take, before they are decoded."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fastav_plugin import ConfigError, UnsupportedError
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.clips import read_video
from fastav_plugin.media.files import Limits, Source
from fastav_plugin.serving.media.measuring import Sampling, measure, refusing
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from tests.serving.media.bombs import avif, clip, gif, png, sounds, webp

CLIP = SAMPLES[0].path.read_bytes()

VIDEOS = {
    "a clip with sound": CLIP,
    "a clip of two pictures far apart": clip("matroska", [0, 0.25, 40]),
    "wide pixels": clip("mp4", [0, 1], 32, Fraction(3, 2)),
    "high pixels": clip("mp4", [0, 1], 32, Fraction(2, 3)),
    "a picture that stands still": png(8),
    "GIF": gif(3, (20, 10), 100),
    "GIF without delays": gif(30, (20, 10), 0),
    "WebP": webp(3, (20, 10), 0.5),
}


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("most", [None, 4])
def test_a_video_takes_what_was_measured(name: str, most: int | None) -> None:
    data, few = VIDEOS[name], Sampling(max_frames=most)
    measured = measure("video", data, MediaPolicy(), few)
    found = read_video(measured.source, 2, most)
    frames = found.frames.nbytes
    sound = 0 if found.waveform is None else found.waveform.nbytes
    assert frames <= measured.size
    assert frames + sound <= measured.size * 1.01 + 64_000
    plain = read_video(Source(data), 2, most)
    assert np.array_equal(found.frames, plain.frames)
    exact = MediaPolicy(max_decoded_bytes=measured.size)
    assert measure("video", data, exact, few).size == measured.size
    with pytest.raises(MediaError, match="other media of the request left"):
        measure("video", data, MediaPolicy(max_decoded_bytes=measured.size - 1), few)


def test_a_sound_takes_what_was_measured() -> None:
    data = sounds([0, 0.5, 3.0])
    assert measure("audio", data, MediaPolicy()).size == pytest.approx(3.01 * 64_000, rel=0.01)


def test_room_for_frames_that_grow() -> None:
    """As far as the limits hold for all frames; of the size in the header there is always room."""

    def room(**limits: Any) -> int:
        source = measure("video", data, MediaPolicy(**limits)).source
        assert source.limits is not None
        return source.limits.pixels

    data = clip("matroska", [0, 0.25, 0.5, 0.75], 64)
    assert room(max_pixels=10**6) == 10**6
    assert room(max_video_pixels=4 * 50_000) == 50_000
    assert room(max_decoded_bytes=2 * 3 * 60_000) == 60_000
    assert room(max_pixels=64 * 64) == (64 + 128) ** 2


def test_what_is_not_read_here() -> None:
    """Their headers do not say how large they become."""
    for data, name in [
        (avif((16, 16), pictures=2), "an animation of AVIF"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"\0\0\0\x18ftypmif1" + bytes(40), "HEIC"),
    ]:
        for kind in ("image", "video"):
            with pytest.raises(MediaError, match=f"no picture that can be read: {name} is not"):
                measure(kind, data, MediaPolicy())


def test_a_picture_of_avif() -> None:
    data = avif((16, 12), "RGBA")
    assert measure("image", data, MediaPolicy(max_pixels=192)).size == 576
    with pytest.raises(MediaError, match="16 x 12 pixels are more than the 191"):
        measure("image", data, MediaPolicy(max_pixels=191))


def test_a_picture_is_no_sound() -> None:
    with pytest.raises(MediaError, match="cannot be decoded"):
        measure("audio", png(8), MediaPolicy())


def test_reasons_of_the_reader_are_told_without_its_options() -> None:
    source = Source(b"", limits=Limits({}, (), 1, 1.0))
    with pytest.raises(MediaError) as error, refusing("video"):
        raise source.damage("it is cut off")
    assert str(error.value) == "it cannot be decoded: it is cut off."
    with pytest.raises(MediaError) as error, refusing("image"):
        raise source.fault("it is a map")
    assert str(error.value) == "it is no picture that can be read: it is a map."
    with pytest.raises(MediaError) as error, refusing("audio"):
        raise OSError("/secret/path")
    assert str(error.value) == "it cannot be decoded (OSError)."
    for stays in (MediaError("no"), UnsupportedError("no")):
        with pytest.raises(type(stays), match=r"^no$"), refusing("video"):
            raise stays
    assert issubclass(ConfigError, ValueError)
