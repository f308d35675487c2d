"""Faults of media files, in words."""

from __future__ import annotations

from pathlib import Path

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


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read the media file"):
        read_sound(tmp_path)


def test_a_part_of_a_clip_is_used_on_request_alone(tmp_path: Path) -> None:
    """Matroska can be read up to where it was cut off."""
    whole = read_video(CLIP)
    import av

    path = tmp_path / "whole.mkv"
    with av.open(str(CLIP)) as old, av.open(str(path), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                new.mux(packet)
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
