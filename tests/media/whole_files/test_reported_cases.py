"""Media of which an answer, a size or the memory was wrong, each as it was reported."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from PIL import Image, ImageOps
from transformers import AutoProcessor, Qwen2_5OmniThinkerForConditionalGeneration
from typer.testing import CliRunner

from fastav_plugin.cli import app
from fastav_plugin.errors import ConfigError
from fastav_plugin.lab.demo.own_clip import read_start
from fastav_plugin.lab.testbed.media import write_media
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.lab.testbed.picture import frame_times, render_frames
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.lab.testbed.sound import render_waveform
from fastav_plugin.media.clips import read_clip
from fastav_plugin.media.inputs import Media, prepare_prompt, read_media
from tests.media.made.drawing import four_corners
from tests.media.made.grid import tiled_avif
from tests.media.made.timelines import SIX
from tests.media.made.tracks import HEARD, SILENCE
from tests.media.made.writing import Track, write

ROOT = Path(__file__).parents[3]
WHEN = "When is the hum heard?"
#: The hum of this clip is heard early.
CLIP = SAMPLES[0]


def read_video(path: Path, **settings: Any) -> Media:
    return read_media(images=[], video=path, audio=None, **settings)


@pytest.fixture(scope="module")
def ask() -> Callable[[Path], str]:
    """The bundled model's answer to when the hum of a clip is heard."""
    if not (MODEL_PATH / "config.json").exists():
        pytest.skip("no trained model here")
    processors: Any = AutoProcessor
    processor = processors.from_pretrained(MODEL_PATH)
    models: Any = Qwen2_5OmniThinkerForConditionalGeneration
    model = models.from_pretrained(MODEL_PATH, dtype=torch.float32).eval()

    def answer(path: Path) -> str:
        inputs = prepare_prompt(processor, read_video(path), WHEN)
        ids = model.generate(**inputs, max_new_tokens=2, do_sample=False)
        start = inputs["input_ids"].shape[1]
        return str(processor.decode(ids[0, start:], skip_special_tokens=True))

    return answer


@pytest.mark.parametrize("rate", [8, 1])
def test_few_pictures_a_second_do_not_shorten_a_clip(
    tmp_path: Path, ask: Callable[[Path], str], rate: int
) -> None:
    clip = CLIP.clip()
    sound = render_waveform(clip)
    path = tmp_path / f"{rate}.mp4"
    write_media(path, render_frames(clip, frame_times(clip, rate)), sound, rate)
    media = read_video(path)
    assert media.frames is not None and media.waveform is not None
    assert (len(media.frames), media.fps) == (16, 2.0)
    assert len(media.waveform) == len(sound) == 8 * 16_000
    assert ask(path) == "early"


def test_sound_that_starts_late_is_heard_late(tmp_path: Path, ask: Callable[[Path], str]) -> None:
    frames, sound = read_clip(CLIP.path, 8)
    preceded = np.concatenate([np.zeros(64_000, np.float32), sound])[: len(sound)]
    write_media(tmp_path / "silence.mp4", frames, preceded, 8)
    with av.open(str(CLIP.path)) as old, av.open(str(tmp_path / "late.mkv"), "w") as new:
        tracks = (*old.streams.video, *old.streams.audio)
        streams = {track.index: new.add_stream_from_template(track) for track in tracks}
        for packet in old.demux():
            if packet.dts is None or packet.pts is None:
                continue
            if packet.stream.type == "audio":
                if packet.pts * packet.time_base >= 4:
                    continue  # as in the other file, the sound ends with the pictures
                shift = int(4 / packet.time_base)
                packet.pts += shift
                packet.dts += shift
            packet.stream = streams[packet.stream_index]
            new.mux(packet)
    assert [ask(tmp_path / name) for name in ("silence.mp4", "late.mkv")] == ["late", "late"]


def test_a_tiled_picture_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "tiles.avif"
    tiled_avif(path, four_corners(512, 256, ("red", "blue", "red", "blue")))
    (picture,) = read_media(images=[path], video=None, audio=None).images
    with Image.open(path) as image:
        assert picture.shape[:2] == image.size[::-1] == (256, 512)
    assert (picture[:, 300:, 2] > 128).all()


GROWTH = """
import resource, sys
from pathlib import Path
from fastav_plugin.media.inputs import read_media

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

read_media(images=[], video=Path(sys.argv[1]), audio=None, max_frames=2)
before = peak()
media = read_media(images=[], video=Path(sys.argv[2]), audio=None, max_frames=8)
assert len(media.frames) == 8
print(peak() - before)
"""


def test_a_few_frames_of_a_long_clip_take_little_memory(tmp_path: Path) -> None:
    small = Track([(0.0, np.zeros((64, 64, 3), np.uint8))], last=1, rate=1)
    write(tmp_path / "small.mp4", small)
    _film(tmp_path / "long.mp4")
    command = [
        sys.executable,
        "-c",
        GROWTH,
        str(tmp_path / "small.mp4"),
        str(tmp_path / "long.mp4"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    # Eight frames are 50 MB; all that are sampled 750 MB.
    assert float(done.stdout) < 0.3


def _film(path: Path) -> None:
    """A minute of 1080p, two pictures a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.options = {"preset": "ultrafast", "threads": "1"}
        for number in range(120):
            frame = av.VideoFrame(1920, 1080, "yuv420p")
            for plane, level in zip(frame.planes, (2 * number, 128, 128), strict=True):
                plane.update(bytes([level]) * plane.buffer_size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_photos_and_clips_of_phones_stand_upright(tmp_path: Path) -> None:
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, :32] = (255, 0, 0)  # stored: red on the left
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(picture).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "photo.jpg")))
    (photo,) = read_media(images=[tmp_path / "photo.jpg"], video=None, audio=None).images
    assert np.array_equal(photo, shown)
    path = tmp_path / "phone.mp4"
    pictures = [(number / 4, picture) for number in range(8)]
    write(path, Track(pictures, last=0.25, rate=4))
    path.write_bytes(_turned(path.read_bytes()))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation == -90
    frames = read_video(path).frames
    assert frames is not None
    assert frames.shape[1:3] == read_start(path)[0].shape[1:3] == (128, 64)
    # What is stored on the left is shown on top.
    assert frames[0, 16, 32, 0] > 200
    assert frames[0, 112, 32, 0] < 50


def _turned(data: bytes) -> bytes:
    """An MP4 file whose pictures are turned by 90 degrees clockwise."""
    place = data.index(b"tkhd") + 44  # the matrix of the track's header
    one = 1 << 16
    matrix = (0, one, 0, -one, 0, 0, 64 * one, 0, 1 << 30)
    numbers = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    return data[:place] + numbers + data[place + len(numbers) :]


def test_a_picture_size_that_changes_ends_no_command(tmp_path: Path) -> None:
    parts = b""
    for number, (width, height) in enumerate(((112, 112), (160, 96))):
        path = tmp_path / f"{number}.ts"
        grey = np.full((height, width, 3), 99, np.uint8)
        pictures = [(3.0 * number + step / 4, grey) for step in range(12)]
        write(path, Track(pictures, last=0.25, rate=4), format="mpegts")
        parts += path.read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(parts)
    frames = read_video(path).frames
    assert frames is not None
    assert frames.shape == (12, 112, 112, 3)
    if (MODEL_PATH / "config.json").exists():
        options = ["--question", "Is the circle visible?", "--output", str(tmp_path / "demo")]
        result = CliRunner().invoke(app, ["demo", "--video", str(path), *options])
        assert result.exit_code == 0, result.output


def test_the_default_sound_track_is_heard(tmp_path: Path) -> None:
    """Behind a silent one."""

    def disposition(value: Disposition) -> Callable[[Any], None]:
        return lambda stream: setattr(stream, "disposition", value)

    path = tmp_path / "two.mp4"
    silent = replace(SILENCE, setup=disposition(Disposition(0)))
    heard = replace(HEARD, setup=disposition(Disposition.default))
    write(path, SIX, silent, heard)
    assert read_video(path).waveform is not None


def test_a_silent_default_track_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "silent.mp4"
    write(path, SIX, SILENCE)
    with caplog.at_level(logging.WARNING, "fastav_plugin.media"):
        assert read_video(path).waveform is None
    (said,) = [record.getMessage() for record in caplog.records]
    assert "silent.mp4" in said and "silent" in said.replace("silent.mp4", "")


def test_half_a_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (112, 160, 3)).astype(np.uint8)
    noise[..., 1] = 0  # nothing green in it
    Image.fromarray(noise).save(path, quality=95)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match=r"Cannot read the media file '.*half\.jpg': .*cut off"):
        read_media(images=[path], video=None, audio=None)
