"""Faults of media files, in words."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from fastav_plugin import ConfigError
from fastav_plugin.media.clips import ClipFile, read_video
from fastav_plugin.media.files import REMEDY, Source, opened
from fastav_plugin.media.sound import read_sound
from tests.media.test_video import CLIP


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<html><body>404 not found</body></html>", "it holds text, no media"),
        (b"Notes on the film, line by line.\n" * 60, "it holds text, no media"),
        (bytes(range(256)) * 8, "its format is not known, or it is damaged"),
        (None, "(there is )?no such file"),
    ],
)
def test_the_reason_is_in_words(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    for read in (read_video, read_sound):
        with pytest.raises(
            ConfigError, match=f"^Cannot read the media file '.*clip.mp4': {reason}"
        ):
            read(path)


def as_matroska(path: Path) -> Path:
    with av.open(str(CLIP)) as old, av.open(str(path), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                new.mux(packet)
    return path


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read the media file"):
        read_sound(tmp_path)


def test_a_part_of_a_clip_is_used_on_request_alone(tmp_path: Path) -> None:
    """Matroska can be read up to where it was cut off."""
    whole = read_video(CLIP)
    path = as_matroska(tmp_path / "whole.mkv")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError) as refused:
        read_video(path)
    assert str(refused.value) == (
        f"Cannot read the media file '{path}': it is cut off: it has {len(content) // 2} of "
        f"{len(content)} bytes. {REMEDY}"
    )
    part = read_video(Source(path, allow_damaged=True))
    assert 2 <= len(part.frames) < len(whole.frames)
    assert abs(part.frames[0].astype(int) - whole.frames[0]).max() < 3


def test_bytes_are_read_as_files_are() -> None:
    source = Source(CLIP.read_bytes())
    assert source.name == "the medium"
    assert (read_video(source).frames == read_video(CLIP).frames).all()
    assert (read_sound(source)[0] == read_sound(CLIP)[0]).all()
    assert ClipFile(source).count == 64
    assert Source.of(source) is source
    assert Source.of(str(CLIP)) == Source(CLIP)
    with opened(source) as container:
        assert container.streams.video


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_a_codec_that_nothing_decodes(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As of protected films; the other track can still be used."""
    path = as_matroska(tmp_path / "clip.mkv")
    name, other = {"video": (b"ISO/AVC", b"ISO/XXX"), "audio": (b"A_AAC", b"A_XXX")}[kind]
    path.write_bytes(path.read_bytes().replace(name, other))
    if kind == "video":
        with pytest.raises(ConfigError, match="nothing decodes the codec of its pictures"):
            read_video(path)
        assert read_sound(path)[0].any()
    else:
        with pytest.raises(ConfigError, match="nothing decodes the codec of its sound"):
            read_sound(path)
        assert read_video(path).waveform is None
    assert f"'{path}': nothing decodes its track" in caplog.text


def test_a_picture_of_lines_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "lines.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    with pytest.raises(ConfigError, match=r"lines\.svg': it holds text, no media"):
        read_video(tmp_path / "lines.svg")


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(
        ConfigError, match="`fps` must be above 0 and `max_frames` at least 1, got 0"
    ):
        read_video(CLIP, 0)
    with pytest.raises(ConfigError, match="got 2.0 and 0"):
        read_video(CLIP, max_frames=0)
    with pytest.raises(ConfigError, match="Stretches must be"):
        read_sound(CLIP, [(2.0, 1.0)])
