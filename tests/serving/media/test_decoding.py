"""Untrusted media: read as the command line reads them, or refused."""

from __future__ import annotations

import base64
import io
import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastav_plugin.lab.testbed.media import write_media
from fastav_plugin.media.clips import Video, read_video
from fastav_plugin.media.inputs import read_media
from fastav_plugin.serving.media.budget import MediaBudget
from fastav_plugin.serving.media.decoding import Sound, decode
from fastav_plugin.serving.media.measuring import Sampling
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from fastav_plugin.serving.media.references import Reference
from tests.serving.media.bombs import png

CLIP = Path(__file__).parents[3] / "fastav_plugin" / "lab" / "testbed" / "clips" / "matching.mp4"


def picture(form: str = "PNG", size: tuple[int, int] = (12, 8), **options: Any) -> bytes:
    rows = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)
    out = io.BytesIO()
    Image.fromarray(rows).save(out, form, **options)
    return out.getvalue()


def sound(seconds: float, rate: int = 8000, channels: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        tone = (np.sin(np.arange(int(seconds * rate)) / 5) * 8000).astype("<i2")
        file.writeframes(np.repeat(tone, channels).tobytes())
    return out.getvalue()


def clip(path: Path, frames: int, side: int = 16, rate: int = 4) -> bytes:
    pictures = np.zeros((frames, side, side, 3), np.uint8)
    write_media(path, pictures, np.zeros(frames * 16_000 // rate, np.float32), rate)
    return path.read_bytes()


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "JPEG", "WEBP"])
def test_pictures(form: str) -> None:
    found = decode("image", picture(form), MediaPolicy())
    assert (found.mode, found.size) == ("RGB", (12, 8))
    if form == "PNG":
        assert np.array_equal(np.asarray(found).ravel(), np.arange(288) % 256)


def test_pictures_are_turned_upright() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    assert decode("image", picture("JPEG", exif=turned.tobytes()), MediaPolicy()).size == (8, 12)


@pytest.mark.parametrize("side", [6_000, 10_000, 60_000])
def test_decompression_bombs(side: int) -> None:
    tracemalloc.start()
    with pytest.raises(MediaError, match="pixels|DecompressionBomb"):
        decode("image", png(side), MediaPolicy())
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [b"", b"junk" * 100, picture()[:-40], picture("JPEG")[:100], b"<svg/>", b"%!PS-Adobe"]
)
def test_damaged_pictures(data: bytes) -> None:
    with pytest.raises(MediaError, match="no picture that can be read"):
        decode("image", data, MediaPolicy())


def test_pixels_are_counted_exactly() -> None:
    assert decode("image", picture(), MediaPolicy(max_pixels=96)).size == (12, 8)
    with pytest.raises(MediaError, match="12 x 8 pixels are more than the 95"):
        decode("image", picture(), MediaPolicy(max_pixels=95))


@pytest.mark.parametrize("most", [None, 6, 9])
def test_a_clip_is_read_as_the_command_line_reads_it(most: int | None) -> None:
    found = decode("video", CLIP.read_bytes(), MediaPolicy(), Sampling(max_frames=most))
    expected = read_media(images=[], video=CLIP, audio=None, max_frames=most)
    assert isinstance(found, Video)
    assert found.waveform is not None and expected.waveform is not None
    assert expected.frames is not None
    assert np.array_equal(found.frames, expected.frames)
    assert found.fps == expected.fps
    assert np.array_equal(found.waveform, expected.waveform)


def test_a_silent_clip(tmp_path: Path) -> None:
    found = decode("video", clip(tmp_path / "silent.mp4", 6), MediaPolicy())
    assert found.frames.shape == (4, 16, 16, 3)
    assert found.waveform is None


def test_limits_of_a_clip(tmp_path: Path) -> None:
    data = clip(tmp_path / "clip.mp4", 40)  # 10 s of 16 x 16
    taken = 20 * 768 + 10 * 16_000 * 4  # two pictures a second, and the sound
    exact = MediaPolicy(
        max_frames=40,
        max_pixels=256,
        max_video_pixels=10240,
        max_decoded_bytes=taken,
        max_seconds=10,
    )
    assert len(decode("video", data, exact).frames) == 20
    for policy, why in [
        (MediaPolicy(max_frames=39), "frames"),
        (MediaPolicy(max_pixels=255), "16 x 16 pixels are more than the 255"),
        (MediaPolicy(max_seconds=9.5), r"longer than the 9\.5 s"),
        (MediaPolicy(max_decoded_bytes=20 * 768 - 1), "bytes of the frames taken of it"),
        (MediaPolicy(max_decoded_bytes=taken - 1), "bytes of its frames and its sound"),
        (MediaPolicy(max_video_pixels=40 * 256 - 1), "10240 pixels of all its frames are more"),
    ]:
        with pytest.raises(MediaError, match=why):
            decode("video", data, policy)


def stream(
    path: Path, frames: int, side: int, then: int | None = None, more: int | None = None
) -> bytes:
    """MPEG-TS, which has no list of frames; `then` as many, or `more`, with edges so long."""
    import av

    with av.open(str(path), "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=4)
        video.height = video.width = side
        video.pix_fmt = "yuv420p"
        for number in range(frames + ((more or frames) if then else 0)):
            if number == frames:
                container.mux(video.encode(None))
                later: Any = av.CodecContext.create("libx264", "w")
                later.height = later.width = then
                later.pix_fmt, later.framerate, later.time_base = "yuv420p", 4, Fraction(1, 4)
            edge = int(then or 0) if number >= frames else side
            pixels = np.full((edge, edge, 3), number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 4)
            for packet in later.encode(frame) if number >= frames else video.encode(frame):
                packet.stream = video
                container.mux(packet)
        for packet in later.encode(None) if then else video.encode(None):
            packet.stream = video
            container.mux(packet)
    return path.read_bytes()


def test_a_clip_without_a_list_of_frames(tmp_path: Path) -> None:
    """They are counted before one is decoded."""
    data = stream(tmp_path / "clip.ts", 20, 16)
    assert decode("video", data, MediaPolicy(max_frames=20)).waveform is None
    with pytest.raises(MediaError, match="more than the 19 frames"):
        decode("video", data, MediaPolicy(max_frames=19))


def test_frames_that_grow(tmp_path: Path) -> None:
    """They get the size of the first one, as in commands."""
    data = stream(tmp_path / "clip.ts", 8, 16, 32)
    found = decode("video", data, MediaPolicy())
    assert found.frames.shape == (8, 16, 16, 3)
    assert np.array_equal(found.frames, read_video(tmp_path / "clip.ts").frames)


@pytest.mark.parametrize(
    "limits", [{"max_pixels": 256}, {"max_video_pixels": 6000}, {"max_decoded_bytes": 300_000}]
)
def test_frames_that_grow_too_much(limits: dict[str, Any], tmp_path: Path) -> None:
    """A header of 16 x 16 pixels, and larger frames behind it, which no decoder makes room for."""
    data = stream(tmp_path / "clip.ts", 8, 16, 1024, more=12)
    assert len(decode("video", data, MediaPolicy()).frames) == 10
    with pytest.raises(MediaError, match="12 of 20 packets of its pictures cannot be decoded"):
        decode("video", data, MediaPolicy(**limits))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_clips(share: float) -> None:
    data = CLIP.read_bytes()
    with pytest.raises(MediaError):
        decode("video", data[: int(len(data) * share)], MediaPolicy())


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_clips_with_the_index_in_front(share: float, tmp_path: Path) -> None:
    import av

    path = tmp_path / "front.mp4"
    options = {"movflags": "faststart"}
    with (
        av.open(str(CLIP)) as source,
        av.open(str(path), "w", format="mp4", options=options) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    data = path.read_bytes()
    assert len(decode("video", data, MediaPolicy()).frames) > 2
    with pytest.raises(MediaError, match="damaged|cannot be decoded"):
        decode("video", data[: int(len(data) * share)], MediaPolicy())


def test_playlists_read_no_other_file(tmp_path: Path) -> None:
    """FFmpeg would follow them to other files and addresses."""
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{CLIP}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{CLIP}'\n",
        f"<MPD><BaseURL>file://{CLIP}</BaseURL></MPD>",
        f"v=0\nm=video 5004 RTP/AVP 96\na=control:file://{CLIP}\n",
    ):
        for kind in ("video", "audio"):
            with pytest.raises(MediaError, match="cannot be decoded"):
                decode(kind, text.encode(), MediaPolicy())


def test_sounds() -> None:
    found = decode("audio", sound(1.5), MediaPolicy())
    assert isinstance(found, Sound)
    assert found.sample_rate == 16_000
    assert found.waveform.dtype == np.float32
    assert abs(len(found.waveform) - 24_000) < 50
    assert 0.2 < np.abs(found.waveform).max() < 0.4
    assert np.array_equal(
        decode("audio", CLIP.read_bytes(), MediaPolicy()).waveform,
        decode("audio", CLIP.read_bytes(), MediaPolicy(max_seconds=9)).waveform,
    )


@pytest.mark.parametrize("lie", [False, True])
def test_long_sounds(lie: bool) -> None:
    """A header that says too little is no way around the limit."""
    data = sound(3.0)
    if lie:  # sizes of the file and of its samples, as a stream leaves them
        data = data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]
    assert len(decode("audio", data, MediaPolicy(max_seconds=3.01)).waveform) > 47_900
    with pytest.raises(MediaError, match=r"longer than the 2\.9 s"):
        decode("audio", data, MediaPolicy(max_seconds=2.9))


@pytest.mark.parametrize("data", [b"", b"RIFF junk", sound(1)[:30], sound(0)])
def test_damaged_sounds(data: bytes) -> None:
    with pytest.raises(MediaError):
        decode("audio", data, MediaPolicy())


def test_media_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="holds no pictures"):
        decode("video", sound(1), MediaPolicy())
    with pytest.raises(MediaError, match="no picture"):
        decode("image", CLIP.read_bytes(), MediaPolicy())
    with pytest.raises(MediaError, match="'text' is none of image, video and audio"):
        decode("text", b"", MediaPolicy())


def test_loading_names_the_reference(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "a.wav").write_bytes(sound(1))
    policy = MediaPolicy(media_dir=tmp_path)
    assert MediaBudget(policy).load(Reference("image", "a.png")).size == (12, 8)
    with pytest.raises(MediaError, match="The video 'a.wav' was refused: it holds no pictures"):
        MediaBudget(policy).load(Reference("video", "a.wav"))
    source = "data:image/png;base64," + base64.b64encode(b"junk" * 1000).decode()
    with pytest.raises(MediaError) as error:
        MediaBudget(policy).load(Reference("image", source))
    assert len(str(error.value)) < 200


def test_a_codec_that_nothing_decodes() -> None:
    """As of protected films."""
    content = CLIP.read_bytes()
    place = content.index(b"avc1", content.index(b"stsd"))
    unknown = content[:place] + b"xxxx" + content[place + 4 :]
    with pytest.raises(MediaError, match="nothing decodes the codec of its pictures"):
        decode("video", unknown, MediaPolicy())
