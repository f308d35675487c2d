"""Files that end before their own headers say."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastav_plugin.media.completeness import EMPTY, missing_part


def clip(path: Path, **options: str) -> bytes:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for grey in range(10):
            frame = np.full((48, 64, 3), 20 * grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


def sound(path: Path) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ones((1, 8000), np.int16), "s16", "mono")
        frame.sample_rate = 16_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path.read_bytes()


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm.mkv", "avi"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_clip_that_was_cut_off(tmp_path: Path, ending: str, share: float) -> None:
    whole = clip(tmp_path / f"clip.{ending}")
    assert missing_part(io.BytesIO(whole)) is None
    found = missing_part(io.BytesIO(whole[: int(share * len(whole))]))
    assert found is not None
    assert found.startswith("it is cut off: it has ")


def test_a_clip_whose_index_comes_first(tmp_path: Path) -> None:
    whole = clip(tmp_path / "clip.mp4", movflags="faststart")
    assert whole.index(b"moov") < whole.index(b"mdat")
    assert missing_part(io.BytesIO(whole)) is None
    data = whole.index(b"mdat") + 4
    cut = missing_part(io.BytesIO(whole[: data + 9]))
    assert cut == f"it is cut off: it has {data + 9} of {len(whole)} bytes"
    assert "ends after its index" in str(missing_part(io.BytesIO(whole[: data - 5])))


def test_a_clip_that_was_never_finished(tmp_path: Path) -> None:
    """A recorder that was stopped leaves the data without the index."""
    whole = clip(tmp_path / "clip.mp4")
    index = whole.index(b"moov") - 4
    assert "its index (`moov`)" in str(missing_part(io.BytesIO(whole[:index])))


def test_a_fragmented_clip_is_whole(tmp_path: Path) -> None:
    whole = clip(tmp_path / "clip.mp4", movflags="frag_keyframe+empty_moov")
    assert missing_part(io.BytesIO(whole)) is None


def test_a_stream_that_states_no_length(tmp_path: Path) -> None:
    live = clip(tmp_path / "live.mkv", live="1")
    assert missing_part(io.BytesIO(live[: len(live) // 2])) is None
    wave = bytearray(sound(tmp_path / "sound.wav"))
    assert missing_part(io.BytesIO(wave)) is None
    assert "cut off" in str(missing_part(io.BytesIO(wave[:500])))
    for unknown in (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xf0\xff\xff\x7f"):
        wave[4:8] = unknown
        assert missing_part(io.BytesIO(wave)) is None


def test_an_mp3_file_with_a_table(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp3"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 64_000), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    whole = path.read_bytes()
    assert whole[:3] == b"ID3"
    assert missing_part(io.BytesIO(whole)) is None
    assert missing_part(io.BytesIO(whole[:4000])) == (
        f"it is cut off: it has 4000 of {len(whole)} bytes"
    )


@given(st.binary(max_size=200))
def test_any_bytes_have_an_answer(content: bytes) -> None:
    assert (missing_part(io.BytesIO(content)) == EMPTY) == (not content)


@given(
    st.binary(max_size=60),
    st.sampled_from([b"\0\0\0\x20ftyp", b"\x1aE\xdf\xa3", b"RIFF", b"\xff\xf3XXInfo"]),
)
def test_any_bytes_behind_a_known_start(content: bytes, start: bytes) -> None:
    missing_part(io.BytesIO(start + content))
