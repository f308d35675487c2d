"""A few bytes that would become very many: measured before they are decoded."""

from __future__ import annotations

import io
import time
import tracemalloc
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped]
from PIL import Image

from fastav_plugin.serving.media import budget as media_budget
from fastav_plugin.serving.media.budget import MediaBudget
from fastav_plugin.serving.media.decoding import decode
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from fastav_plugin.serving.media.references import Reference


def constant_flac(rate: int) -> bytes:
    """A FLAC of one block: 65535 samples of one value, in a few bytes."""

    def checksum(data: bytes, bits: int, polynomial: int) -> bytes:
        found, top = 0, 1 << (bits - 1)
        for byte in data:
            found ^= byte << (bits - 8)
            for _ in range(8):
                found = (found << 1 ^ (polynomial if found & top else 0)) & (2 * top - 1)
        return found.to_bytes(bits // 8, "big")

    samples = b"\xff\xff"
    about = (rate << 44 | 15 << 36).to_bytes(8, "big")
    begin = b"fLaC\x80\0\0\x22" + samples * 2 + bytes(6) + about + bytes(16)
    head = b"\xff\xf8\x70\x08\0" + (0xFFFF - 1).to_bytes(2, "big")
    block = head + checksum(head, 8, 0x07) + b"\0\x03\xe8"
    return begin + block + checksum(block, 16, 0x8005)


@pytest.mark.parametrize(
    ("rate", "why"), [(60, "60 samples a second"), (1000, r"longer than the 60 s")]
)
def test_sounds_that_grow(rate: int, why: str) -> None:
    """They are measured before they are resampled: 60 a second would become 266 times as many."""
    assert len(decode("audio", constant_flac(8000), MediaPolicy()).waveform) > 131_000
    data = constant_flac(rate)
    assert len(data) < 70
    tracemalloc.start()
    with pytest.raises(MediaError, match=why):
        decode("audio", data, MediaPolicy(max_seconds=60))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def encoded(form: str, side: int = 64, **options: bool) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), (9, 99, 199)).save(out, form, **options)
    return out.getvalue()


def test_pictures_of_many_passes() -> None:
    """Each takes as long as the whole picture and 20 bytes: hours of decoding in one file."""
    data = encoded("JPEG", progressive=True)
    assert decode("image", data, MediaPolicy()).size == (64, 64)
    last = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(MediaError, match="more than 30 passes"):
        decode("image", data[:-2] + last * 100 + data[-2:], MediaPolicy())


def test_what_a_phone_appends_to_a_picture_is_not_read() -> None:
    """A motion photo is a JPEG and a video behind it, in which any bytes may stand."""
    picture = encoded("JPEG", side=32, progressive=True)
    tail = b"\xff\xda" * 500
    assert decode("image", picture + tail, MediaPolicy()).size == (32, 32)


def test_a_video_of_pictures_that_may_take_any_number_of_passes() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=2)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame.reformat(format="yuvj420p")))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match="codec 'mjpeg'"):
        decode("video", file.getvalue(), MediaPolicy())


@pytest.mark.parametrize(("form", "rate"), [("wav", 8_000), ("flac", 48_000)])
def test_a_sound_as_long_as_is_allowed(form: str, rate: int) -> None:
    """Seconds of many frames add up without rounding."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(60 * rate, np.float32), rate, format=form.upper())
    policy = MediaPolicy(max_seconds=60)
    assert len(decode("audio", file.getvalue(), policy).waveform) == 60 * 16_000
    file = io.BytesIO()
    soundfile.write(file, np.zeros(60 * rate + rate // 10, np.float32), rate, format=form.upper())
    with pytest.raises(MediaError, match="longer"):
        decode("audio", file.getvalue(), policy)


def test_an_index_that_grows() -> None:
    """QuickTime's compressed one, which FFmpeg unpacks at once, of whatever length it says."""

    def box(name: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return (len(body) + 8).to_bytes(4, "big") + name + body

    size = 2**24
    packed = box(b"cmvd", size.to_bytes(4, "big"), zlib.compress(bytes(size)))
    index = box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), packed))
    data = box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + index
    for kind in ("video", "audio"):
        with pytest.raises(MediaError, match="its index is compressed"):
            decode(kind, data, MediaPolicy())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    return tmp_path


def test_a_request_of_many_media(folder: Path) -> None:
    """160 letters may name one file sixteen times, which is read sixteen times."""
    budget = MediaBudget(MediaPolicy(media_dir=folder, max_per_request=2))
    assert budget.load(Reference("image", "a.png")).size == (64, 64)
    assert budget.picture(encoded("PNG")).size == (64, 64)
    with pytest.raises(MediaError, match="more than the 2 media that are allowed"):
        budget.load(Reference("image", "no"))
    with pytest.raises(MediaError, match="more than the 2 media that are allowed"):
        budget.picture(b"")


def test_a_request_of_large_media(folder: Path) -> None:
    """They are counted together, before the next is decoded."""
    one = 64 * 64 * 3
    budget = MediaBudget(MediaPolicy(media_dir=folder, max_decoded_bytes=2 * one))
    for _ in range(2):
        budget.load(Reference("image", "a.png"))
    with pytest.raises(MediaError, match="'a.png' was refused: .* decoded bytes"):
        budget.load(Reference("image", "a.png"))
    budget = MediaBudget(MediaPolicy(max_decoded_bytes=2 * one - 1))
    budget.picture(encoded("PNG"))
    with pytest.raises(MediaError, match=f"{one} bytes .* other media of the request left"):
        budget.picture(encoded("PNG"))
    (folder / "a.flac").write_bytes(constant_flac(8000))
    budget = MediaBudget(MediaPolicy(media_dir=folder, max_decoded_bytes=100_000))
    budget.load(Reference("audio", "a.flac"))
    with pytest.raises(MediaError, match="decoded bytes"):
        budget.picture(encoded("PNG"))


def test_a_request_of_slow_media(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of one download is that of all downloads of a request."""
    left = []

    def read_slowly(kind: str, source: str, policy: MediaPolicy) -> bytes:
        left.append(policy.timeout)
        time.sleep(0.06)
        return encoded("PNG")

    monkeypatch.setattr(media_budget, "read_source", read_slowly)
    budget = MediaBudget(MediaPolicy(timeout=0.1))
    for _ in range(2):
        budget.load(Reference("image", "http://a.org/b.png"))
    with pytest.raises(MediaError, match=r"request took more than 0\.1 s"):
        budget.load(Reference("image", "http://a.org/b.png"))
    assert left[0] == 0.1 and left[1] < 0.05
