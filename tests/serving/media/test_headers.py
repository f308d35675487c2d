"""What headers say, of files that Pillow and FFmpeg made."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.serving.media.headers import (
    PACKED,
    gif_pictures,
    jpeg_passes,
    listed_samples,
    listed_tags,
)
from fastav_plugin.serving.media.policy import MediaError
from tests.serving.media.bombs import clip, gif, index, muxed, packed_index, tagged


def saved(
    form: str, size: tuple[int, int] = (40, 30), pictures: int = 1, **options: object
) -> bytes:
    """A picture of noise, or an animation of so many."""
    random = np.random.default_rng(0)
    first, *rest = (
        Image.fromarray(random.integers(0, 256, (*size[::-1], 3), np.uint8))
        for _ in range(pictures)
    )
    file = io.BytesIO()
    first.save(file, form, **({"save_all": True, "append_images": rest} if rest else {}), **options)
    return file.getvalue()


def test_passes_of_a_jpeg() -> None:
    assert jpeg_passes(saved("JPEG")) == 1
    data = saved("JPEG", progressive=True)
    assert 5 <= jpeg_passes(data) <= 15
    assert jpeg_passes(data + data) == jpeg_passes(data)


@pytest.mark.parametrize("pictures", [1, 2, 7])
def test_pictures_of_a_gif(pictures: int) -> None:
    data = saved("GIF", pictures=pictures, duration=50, comment="a comment")
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == pictures
    assert gif_pictures(data, 100) == (pictures, 40, 30)
    assert gif_pictures(data, 1)[0] == min(2, pictures)


def test_a_gif_that_is_cut_off() -> None:
    data = saved("GIF", pictures=3)
    for end in range(13, len(data), 97):
        count, width, height = gif_pictures(data[:end], 100)
        assert count <= 3 and (width, height) == (40, 30)


def test_a_gif_that_grows() -> None:
    data = gif(1, (10, 10))[:-1] + gif(1, at=(99, 4))[19:]
    assert gif_pictures(data, 100) == (2, 100, 10)
    with Image.open(io.BytesIO(data)) as image:
        image.seek(1)
        assert image.size == (100, 10)


def samples(data: bytes) -> int:
    with av.open(io.BytesIO(data), "r") as container:
        return len([packet for packet in container.demux() if packet.size])


@pytest.mark.parametrize("options", [{}, {"movflags": "frag_keyframe"}])
def test_samples_that_are_listed(options: dict[str, str]) -> None:
    """As many as there are packets."""
    with (
        muxed("mp4", **options) as (target, file),
        av.open(str(SAMPLES[0].path)) as source,
    ):
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    data = file.getvalue()
    assert listed_samples(data) == samples(data) > 20


def test_files_of_other_formats_list_none() -> None:
    for data in (b"", b"moov", clip("matroska", [0, 1]), clip("mpegts", [0, 1]), saved("WEBP")):
        assert listed_samples(data) == 0


def test_uncompressed_sound_is_counted_by_chunks() -> None:
    assert listed_samples(index(b"soun", 10**6, ticks=1)) == 0
    assert listed_samples(index(b"soun", 10**6)) == 10**6
    assert listed_samples(index(b"vide", 10**6, ticks=1)) == 10**6
    assert listed_samples(index(b"vide", 0, fragment=10**6)) == 10**6


def test_an_index_in_an_odd_place() -> None:
    """FFmpeg finds it there, too."""
    data = index(b"vide", 10**6)
    place = data.index(b"moov")
    hidden = data[:place] + b"free" + data[place + 4 :]
    assert listed_samples(hidden) == 10**6
    assert listed_samples(data[:4] + b"junk" + data[8:]) == 10**6


def test_what_lies_in_the_media_is_no_index() -> None:
    data = index(b"vide", 10)
    assert listed_samples(data + b"\0\0\0\x20mdattrun" + b"\xff" * 20) == 10


def test_boxes_without_end() -> None:
    with pytest.raises(MediaError, match="more than 1048576 parts"):
        listed_samples(b"\0\0\0\x08free" * (2**20 + 1))


def test_an_index_that_is_compressed() -> None:
    assert PACKED.search(packed_index())
    assert not PACKED.search(SAMPLES[0].path.read_bytes())


@pytest.mark.parametrize("form", ["flac", "ogg", "matroska", "mp4", "mp3"])
def test_tags_are_counted(form: str) -> None:
    options = {"movflags": "use_metadata_tags"} if form == "mp4" else {}
    codec = {"flac": "flac", "ogg": "libopus", "mp3": "libmp3lame"}.get(form, "aac")
    with muxed(form, **options) as (container, file):
        container.metadata.update({f"name{number}": "value" for number in range(50)})
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        silence = np.zeros((1, 4800), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="flt", layout="mono")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    assert 50 <= listed_tags(file.getvalue()) <= 60
    assert listed_tags(tagged(7)) == 7
