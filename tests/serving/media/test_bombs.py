"""A few bytes that would become very many: measured before they are decoded."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped]
from PIL import Image

from fastav_plugin.media.pictures import read_image
from fastav_plugin.serving.media import budget as media_budget
from fastav_plugin.serving.media.budget import MediaBudget
from fastav_plugin.serving.media.decoding import decode
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from fastav_plugin.serving.media.references import Reference
from tests.serving.media.bombs import BOMBS

ROOT = Path(__file__).parents[3]


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
    about = (rate << 44 | 15 << 36 | 65535).to_bytes(8, "big")
    begin = b"fLaC\x80\0\0\x22" + samples * 2 + bytes(6) + about + bytes(16)
    head = b"\xff\xf8\x70\x08\0" + (0xFFFF - 1).to_bytes(2, "big")
    block = head + checksum(head, 8, 0x07) + b"\0\x03\xe8"
    return begin + block + checksum(block, 16, 0x8005)


@pytest.mark.parametrize("rate", [60, 1000, 8000])
def test_a_sound_of_a_few_bytes(rate: int) -> None:
    """Of 60 samples a second resampling would make 266 times as many."""
    data = constant_flac(rate)
    assert len(data) < 70
    with (
        traced(2**20),
        pytest.raises(MediaError, match="cut off: it has 0.0 of|longer than the 8 s"),
    ):
        decode("audio", data, MediaPolicy(max_seconds=8))


@pytest.mark.parametrize(("rate", "slow"), [(60, True), (999, True), (1000, False)])
def test_sounds_that_grow(rate: int, slow: bool) -> None:
    """They are measured before they are resampled."""
    data = pcm(rate, 100)
    if not slow:
        assert len(decode("audio", data, MediaPolicy()).waveform) == 100 * 16_000
        return
    with traced(2**23), pytest.raises(MediaError, match=f"{rate} samples a second"):
        decode("audio", data, MediaPolicy())


@contextmanager
def traced(most: int) -> Iterator[None]:
    """While inside, Python and NumPy take at most so many bytes at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def pcm(rate: int, seconds: float, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    tone = np.sin(np.arange(round(seconds * rate)) / 3).astype(np.float32) / 2
    soundfile.write(file, tone, rate, format=form)
    return file.getvalue()


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


@pytest.mark.parametrize(("form", "rate"), [("WAV", 8_000), ("FLAC", 48_000)])
def test_a_sound_as_long_as_is_allowed(form: str, rate: int) -> None:
    """Seconds of many frames add up without rounding."""
    policy = MediaPolicy(max_seconds=60)
    assert len(decode("audio", pcm(rate, 60, form), policy).waveform) == 60 * 16_000
    with pytest.raises(MediaError, match="longer"):
        decode("audio", pcm(rate, 60.1, form), policy)


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    bomb = BOMBS[name]
    data = bomb.make()
    start = time.process_time()
    with pytest.raises(MediaError, match=bomb.why):
        decode(bomb.kind, data, MediaPolicy(**bomb.limits))
    assert time.process_time() - start < 10  # what is bounded takes less than one


#: Peak of memory beyond what a process with everything imported has, in MB.
PEAK = """
import resource, sys
from fastav_plugin.serving.media.decoding import decode
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from tests.serving.media.bombs import BOMBS, clip, gif
files = {name: bomb.make() for name, bomb in BOMBS.items() if name != "a large frame"}
files["a large frame"] = open(sys.argv[1], "rb").read()
decode("video", clip("mp4", [0, 1]), MediaPolicy())
decode("video", gif(2), MediaPolicy())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, data in files.items():
    try:
        decode(BOMBS[name].kind, data, MediaPolicy(**BOMBS[name].limits))
    except MediaError:
        print(name, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_of_bombs(tmp_path: Path) -> None:
    """Of decoders, too, whose memory Python does not see."""
    large = tmp_path / "large.ts"  # made here: encoding it takes more than decoding it would
    large.write_bytes(BOMBS["a large frame"].make())
    command = [sys.executable, "-c", PEAK, str(large)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    peaks = {
        name: int(mb)
        for name, mb in (line.rsplit(maxsplit=1) for line in found.stdout.splitlines())
    }
    assert peaks.keys() == BOMBS.keys()
    assert max(peaks.values()) < 100, peaks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    return tmp_path


def test_a_request_of_many_media(folder: Path) -> None:
    """160 letters may name one file sixteen times, which is read sixteen times."""
    budget = MediaBudget(MediaPolicy(media_dir=folder, max_per_request=2))
    assert budget.load(Reference("image", "a.png")).size == (64, 64)
    assert budget.picture(encoded("PNG")).size == (64, 64)
    with pytest.raises(MediaError, match="2 media that are allowed .FASTAV_MEDIA_MAX_PER_REQUEST"):
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
    (folder / "a.flac").write_bytes(pcm(8000, 65535 / 8000, "FLAC"))
    samples = 65535 * 2
    budget = MediaBudget(MediaPolicy(media_dir=folder, max_decoded_bytes=4 * samples + one))
    assert len(budget.load(Reference("audio", "a.flac")).waveform) == samples
    with pytest.raises(MediaError, match=f"{4 * samples} bytes of the sound are more than"):
        budget.load(Reference("audio", "a.flac"))
    budget.picture(encoded("PNG"))
    with pytest.raises(MediaError, match="decoded bytes that are allowed"):
        budget.picture(encoded("PNG"))


def test_a_request_of_media_that_the_processor_samples(folder: Path) -> None:
    """They are measured when they are read, and count as much as they may become."""
    one = 64 * 64 * 3
    budget = MediaBudget(MediaPolicy(media_dir=folder, max_decoded_bytes=3 * one - 1))
    for _ in range(2):
        assert read_image(budget.source(Reference("image", "a.png"))).shape == (64, 64, 3)
    with pytest.raises(MediaError, match="'a.png' was refused: .* other media of the request left"):
        budget.source(Reference("image", "a.png"))


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
