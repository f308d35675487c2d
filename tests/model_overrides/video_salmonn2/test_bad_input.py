"""Clips nobody should have given: they work, or one sentence says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from fastav_plugin import ConfigError, FastAVCache, FastAVConfig, TokenMapError, detach
from fastav_plugin.model_overrides import video_salmonn2
from fastav_plugin.model_overrides.video_salmonn2 import Clip
from tests.model_overrides.video_salmonn2 import tiny
from tests.support.cache_names import passing

NAMES = list(tiny.CONFIGS)
each_name = pytest.mark.parametrize("name", NAMES)
TWO_HOURS = 7200


def write_long_clip(path: Path, *, sound: bool) -> Path:
    """Two hours of a picture every ten seconds, and of silence."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(1, 10))
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        video.options = {"preset": "ultrafast", "threads": "1"}
        audio = container.add_stream("flac", rate=1000, layout="mono") if sound else None
        for picture in range(TWO_HOURS // 10):
            grey = np.full((32, 32, 3), picture % 256, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            if audio is not None:
                silence = np.zeros((1, 10_000), np.int16)
                frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 1000, picture * 10_000
                frame.time_base = Fraction(1, 1000)
                container.mux(audio.encode(frame))
        for stream in (video, audio):
            if stream is not None:
                container.mux(stream.encode(None))
    return path


def write_nothing(path: Path) -> Path:
    """A well-formed file with a stream that has no frames."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=8)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        container.mux(video.encode(None))
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def noise(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    return path


def truncated(path: Path) -> Path:
    """The first half of a file, whose index stood at the end."""
    whole = tiny.write_clip(path, 3)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    return whole


def absent(path: Path) -> Path:
    return path


@pytest.mark.parametrize("make", [write_nothing, empty, noise, truncated, absent])
@each_name
def test_files_without_a_clip(name: str, make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mp4")
    with pytest.raises(ConfigError, match=r"clip\.mp4") as caught:
        tiny.processor(name)(video=path, text="What?")
    assert len(str(caught.value).split("\n")) == 1


@each_name
def test_sound_where_pictures_are_wanted(name: str, clips: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"unseen\.mp4' holds sound but no pictures. Pass it as"):
        tiny.processor(name)(video=clips["unseen"], text="What?")
    with pytest.raises(ConfigError, match=r"silent\.mp4' holds no sound"):
        tiny.processor(name)(audio=clips["silent"], text="What?")


@each_name
def test_two_hours_of_pictures(name: str, tmp_path: Path) -> None:
    path = write_long_clip(tmp_path / "long.mkv", sound=False)
    processor = tiny.processor(name, **({"max_frames": 32} if "plus" in name else {}))
    inputs = processor(video=path, text="What?")
    if name == "video_salmonn2":
        assert inputs["frames_per_clip"].tolist() == [110]
    else:
        assert inputs["video_grid_thw"].tolist()[0][0] == 16
        assert inputs["second_per_grid_ts"].tolist() == [2 * TWO_HOURS / 32]


def test_two_hours_of_sound(tmp_path: Path) -> None:
    path = write_long_clip(tmp_path / "long.mkv", sound=True)
    processor = tiny.processor("video_salmonn2")
    with pytest.raises(ConfigError, match="7200 seconds is too long; the model knows 6030"):
        processor(video=path, text="What?")
    inputs = processor(video=path, text="What?", sound=False, num_frames=4)
    assert inputs["frames_per_clip"].tolist() == [4]


@each_name
def test_pictures_are_not_taken(name: str) -> None:
    with pytest.raises(ConfigError, match="takes clips and sounds, no pictures"):
        tiny.processor(name)(text="What?", image="picture.png")
    with pytest.raises(ConfigError, match="`num_frames` must be at least 1, got 0"):
        tiny.processor(name)(text="What?", num_frames=0)


@each_name
def test_clips_in_memory_without_pictures_or_sound(name: str) -> None:
    frames = np.zeros((9, 32, 32, 3), np.uint8)
    assert "input_features" not in tiny.processor(name)(video=Clip(frames, 3.0), text="What?")
    for clip in (Clip(frames[:0], 3.0), Clip(frames, 0.0)):
        with pytest.raises(ConfigError, match="at least one frame and a frame rate are needed"):
            tiny.processor(name)(video=clip, text="What?")


def test_a_file_that_ends_before_its_index_says(clips: dict[str, Path], tmp_path: Path) -> None:
    content = clips["short"].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: 3 * len(content) // 4])
    with pytest.raises(ConfigError, match=r"cut\.mp4': it is cut off: it has \d+ of"):
        tiny.processor("video_salmonn2")(video=tmp_path / "cut.mp4", text="What?")


def test_frames_of_another_prompt_are_refused(clips: dict[str, Path]) -> None:
    """And without them a rule of frames says what is missing."""
    name = "video_salmonn2_plus"
    model = tiny.build(name)
    inputs = tiny.processor(name)(video=clips["three"], text="What?")
    frames = inputs.pop("frame_ids")
    options = {"max_new_tokens": 1, "suppress_tokens": tiny.SUPPRESSED}
    config = FastAVConfig.for_model(model)
    for given, message in (
        (None, "needs the frame of every token"),
        (frames.roll(1, 1).where(frames >= 0, -1), "do not fit the media of a prompt"),
        (frames.repeat(2, 1), "do not fit the media of a prompt"),
        (frames.repeat(2, 1).view(2, -1), "do not fit the media of a prompt"),
    ):
        with pytest.raises(TokenMapError, match=message):
            model.generate(**inputs, frame_ids=given, **passing(FastAVCache(config)), **options)
        detach(model)


@pytest.mark.parametrize(
    ("make", "values", "message"),
    [
        ("VideoSalmonn2Config", {"vocab_size": 1000}, "must lie below `vocab_size`, 1000"),
        ("VideoSalmonn2PlusConfig", {"positions": "mine"}, "must be 'trained' or 'reference'"),
    ],
)
def test_configurations_that_cannot_be(make: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        getattr(video_salmonn2, make)(**values)


@each_name
def test_prompts_of_every_kind_are_answered(name: str, clips: dict[str, Path]) -> None:
    """One batch: a clip, two clips, a clip without sound, a sound, and text alone."""
    model, processor = tiny.build(name), tiny.processor(name)
    inputs = processor(
        text=["What?", "Which?", "Where?", "Who?", "Why?"],
        video=[clips["ten"], [clips["three"], clips["short"]], clips["silent"], None, None],
        audio=[None, None, None, np.ones(80_000, np.float32), None],
    )
    options = {"max_new_tokens": 3, "suppress_tokens": tiny.SUPPRESSED, "do_sample": False}
    dense = model.generate(**inputs, **options)
    cache = FastAVCache(FastAVConfig.for_model(model, min_media_tokens=1))
    pruned = model.generate(**inputs, **passing(cache), **options)
    tokens = cache.report(row=None).tokens_per_layer
    detach(model)
    assert dense.shape == pruned.shape == (5, inputs["input_ids"].shape[1] + 3)
    assert all(counts[-1] < counts[2] for counts in tokens[:4])
    assert tokens[0][3] < tokens[0][2]
    assert len(set(tokens[4])) == 1
    assert torch.equal(dense[4], pruned[4])


@pytest.mark.parametrize("forgotten", ["pixel_values_videos", "input_features"])
@each_name
def test_media_that_were_forgotten(name: str, forgotten: str, clips: dict[str, Path]) -> None:
    """Their placeholders are no words."""
    model, inputs = tiny.build(name), tiny.processor(name)(video=clips["three"], text="What?")
    del inputs[forgotten]
    kind = "video" if "video" in forgotten else "audio"
    for call, options in ((model, {}), (model.generate, {"max_new_tokens": 1})):
        with pytest.raises(TokenMapError, match=f"{kind} placeholders, but 0 {kind} features"):
            call(**inputs, **options)


def test_a_forgotten_picture_of_plus() -> None:
    model = tiny.build("video_salmonn2_plus")
    with pytest.raises(TokenMapError, match="1 image placeholders, but 0 image features"):
        model(input_ids=torch.tensor([[3, model.config.image_token_id, 4]]))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, list])
@each_name
def test_frames_that_are_no_clip(name: str, kind: Any) -> None:
    frames = kind(np.zeros((9, 32, 32, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"path or a Clip, got .*into Clip\(frames") as caught:
        tiny.processor(name)(video=frames, text="What?")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "part", "whole"),
    [
        ("video_salmonn2", "audio_layout", "input_features"),
        ("video_salmonn2", "frames_per_clip", "pixel_values_videos"),
        ("video_salmonn2_plus", "segments_per_sound", "input_features"),
        ("video_salmonn2_plus", "video_grid_thw", "pixel_values_videos"),
        ("video_salmonn2_plus", "second_per_grid_ts", "pixel_values_videos"),
    ],
)
def test_a_part_that_was_forgotten(
    name: str, part: str, whole: str, clips: dict[str, Path]
) -> None:
    model, inputs = tiny.build(name), tiny.processor(name)(video=clips["three"], text="What?")
    del inputs[part]
    for call, options in ((model, {}), (model.generate, {"max_new_tokens": 1})):
        with pytest.raises(TokenMapError, match=f"`{whole}` cannot be read without `{part}`"):
            call(**inputs, **options)
