"""Made files of every kind through every function that reads one: the same in each."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastav_plugin.errors import ConfigError
from fastav_plugin.lab.demo.own_clip import read_start
from fastav_plugin.media.clips import Video, read_clip, read_video
from fastav_plugin.media.files import Source
from fastav_plugin.media.inputs import read_media
from fastav_plugin.media.pictures import read_image
from fastav_plugin.media.sound import SAMPLE_RATE, fit_length, read_sound
from fastav_plugin.model_overrides.video_salmonn2.processing.clips import OpenClip, open_sound
from fastav_plugin.model_overrides.videollama2.media import (
    load_audio,
    load_clip_audio,
    load_picture,
    pick_frames,
)
from fastav_plugin.serving.media.decoding import decode
from fastav_plugin.serving.media.policy import MediaError, MediaPolicy
from tests.media.made import FILES, MADE
from tests.media.made.drawing import COLOURS, colour_at
from tests.media.made.table import Expected, MadeFile
from tests.media.whole_files.shown import check_corners, check_pictures, check_sound

#: Frames a second of all that is sampled here, and seconds that the demo takes.
FPS, DEMO_SECONDS = 2.0, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def file(folder: Path) -> Callable[[str], tuple[MadeFile, Path]]:
    @cache
    def written(name: str) -> tuple[MadeFile, Path]:
        made = FILES[name]
        if made.needs is not None and importlib.util.find_spec(made.needs) is None:
            pytest.skip(f"{made.needs} is not installed")
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        made.write(path)
        return made, path

    return written


@cache
def reference(path: Path) -> Video:
    """What `read_video` makes of a file, which another test checks."""
    return read_video(path, FPS)


def named(role: str, damaged: bool = False) -> list[str]:
    return [
        name
        for name, made in FILES.items()
        if made.role == role and (made.expected.error is not None) == damaged
    ]


def test_the_table_is_large_and_its_names_are_unique() -> None:
    assert sum(map(len, MADE.values())) == len(FILES) > 200
    assert {made.role for made in FILES.values()} == {"video", "image", "audio"}
    endings = {Path(name).suffix for name in FILES}
    assert len(endings) > 30


@pytest.mark.parametrize("name", named("video"))
def test_clips(name: str, file: Callable[[str], tuple[MadeFile, Path]]) -> None:
    made, path = file(name)
    video = reference(path)
    assert video.fps == FPS
    check_pictures(video.frames, FPS, made.expected)
    check_sound(video.waveform, made.expected)


@pytest.mark.parametrize("name", named("video"))
def test_clips_of_commands(name: str, file: Callable[[str], tuple[MadeFile, Path]]) -> None:
    """Testbed, `generate` and demo, which takes the beginning, read the same."""
    _, path = file(name)
    video = reference(path)
    seconds = len(video.frames) / FPS
    whole = fit_length(video.waveform, round(seconds * SAMPLE_RATE))
    frames, waveform = read_clip(path, FPS)
    assert np.array_equal(frames, video.frames)
    assert np.array_equal(waveform, whole)
    media = read_media(images=[], video=path, audio=None)
    assert media.frames is not None
    assert np.array_equal(media.frames, video.frames)
    assert (media.waveform is None) == (video.waveform is None)
    assert np.array_equal(fit_length(media.waveform, len(whole)), whole)
    frames, waveform, _ = read_start(path)
    assert len(frames) == min(len(video.frames), FPS * DEMO_SECONDS)
    assert np.array_equal(frames, video.frames[: len(frames)])
    assert np.allclose(waveform, whole[: len(waveform)], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", named("video"))
def test_a_few_frames_are_those_of_the_whole(
    name: str, file: Callable[[str], tuple[MadeFile, Path]]
) -> None:
    _, path = file(name)
    whole, few = reference(path), read_video(path, FPS, 4)
    count = min(4, len(whole.frames))
    places = np.linspace(0, len(whole.frames) - 1, count).round().astype(int)
    assert np.array_equal(few.frames, whole.frames[places])
    if whole.waveform is not None:
        assert few.waveform is not None
        assert np.array_equal(few.waveform, whole.waveform)


@pytest.mark.slow
@pytest.mark.parametrize("name", named("video"))
def test_the_beginning_is_that_of_the_whole(
    name: str, file: Callable[[str], tuple[MadeFile, Path]]
) -> None:
    _, path = file(name)
    whole, start = reference(path), read_video(path, FPS, seconds=2.0)
    assert np.array_equal(start.frames, whole.frames[:4])
    if start.waveform is not None:
        assert whole.waveform is not None
        assert np.allclose(start.waveform, whole.waveform[: 2 * SAMPLE_RATE], atol=1e-3)


@pytest.mark.parametrize("name", named("video"))
def test_clips_of_requests(name: str, file: Callable[[str], tuple[MadeFile, Path]]) -> None:
    made, path = file(name)
    if made.refused is not None:
        with pytest.raises(MediaError, match=made.refused):
            decode("video", path.read_bytes(), MediaPolicy())
        return
    video = decode("video", path.read_bytes(), MediaPolicy())
    whole = reference(path)
    assert np.array_equal(video.frames, whole.frames)
    assert (video.waveform is None) == (whole.waveform is None)
    if whole.waveform is not None:
        assert np.array_equal(video.waveform, whole.waveform)


@pytest.mark.slow
@pytest.mark.parametrize("name", named("video"))
def test_frames_of_videollama2(name: str, file: Callable[[str], tuple[MadeFile, Path]]) -> None:
    """The middles of four equal parts of the pictures."""
    made, path = file(name)
    clip = OpenClip(path)
    frames = list(pick_frames(path, 4))
    assert len(frames) == 4
    for number, picture in enumerate(frames):
        check_corners(picture, made.expected, number)
        check_middle(picture, made.expected, clip.seconds * (number + 0.5) / 4, 1 / clip.fps)


def check_middle(picture: Any, expected: Expected, time: float, around: float) -> None:
    """The colour at about a time."""
    if not expected.shown:
        return
    near = {colour_at(expected.shown, time + by) for by in (-around, 0, around)}
    if None not in near:
        middle = picture[picture.shape[0] // 2, picture.shape[1] // 2]
        differs = [np.abs(middle.astype(int) - COLOURS[str(colour)]).max() for colour in near]
        assert min(differs) <= expected.tolerance, f"{time} s: one of {near}, got {middle}"


@pytest.mark.slow
@pytest.mark.parametrize("name", named("video"))
def test_clips_of_salmonn(name: str, file: Callable[[str], tuple[MadeFile, Path]]) -> None:
    made, path = file(name)
    clip = OpenClip(path)
    assert made.expected.seconds is not None
    longer = max(clip.seconds, clip.sound_seconds)
    assert abs(longer - made.expected.seconds) < 0.06 + made.expected.late
    indices = [number * clip.count // 6 for number in range(6)]
    for index, picture in zip(indices, clip.pictures(indices), strict=True):
        check_corners(picture, made.expected, index)
        check_middle(picture, made.expected, (index + 0.5) / clip.fps, 0.05)
    check_sound(clip.sound(mix=True), made.expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", named("video"))
def test_sound_of_clips_of_videollama2(
    name: str, file: Callable[[str], tuple[MadeFile, Path]]
) -> None:
    """Eight stretches of two seconds, of which each beep is in some."""
    made, path = file(name)
    expected = made.expected
    waveform = load_clip_audio(path)
    if waveform is None or not waveform.any():
        assert expected.beeps is None
        return
    last = max(0.0, OpenClip(path).sound_seconds - 2)
    beeps = tuple(
        (2 * number + start - begin, frequency)
        for number, begin in enumerate(np.linspace(0, last, 8))
        for start, frequency in expected.beeps or ()
        if begin + 0.06 < start < begin + 1.7
    )
    found = replace(expected, beeps=beeps)
    assert beeps
    for beep in beeps:
        single = replace(found, beeps=(beep,))
        first = round((beep[0] - 0.05) * SAMPLE_RATE)
        moment = waveform[first : first + round(0.3 * SAMPLE_RATE)]
        check_sound(moment, replace(single, beeps=((beep[0] - first / SAMPLE_RATE, beep[1]),)))


SOUNDS: dict[str, Callable[[Path], Any]] = {
    "read_sound": lambda path: read_sound(path)[0],
    "read_media": lambda path: read_media(images=[], video=None, audio=path).waveform,
    "videollama2": lambda path: load_audio(path, 60),
    "video_salmonn2": lambda path: open_sound(path, mix=True),
    "requests": lambda path: decode("audio", path.read_bytes(), MediaPolicy()).waveform,
}


@pytest.mark.parametrize("entry", SOUNDS)
@pytest.mark.parametrize("name", named("audio"))
def test_sounds(name: str, entry: str, file: Callable[[str], tuple[MadeFile, Path]]) -> None:
    made, path = file(name)
    expected = made.expected
    if entry == "requests" and made.refused is not None:
        with pytest.raises(MediaError, match=made.refused):
            SOUNDS[entry](path)
        return
    if entry == "videollama2" and "six-channels" in name:
        # It takes the first channel, which holds the first beep.
        expected = replace(expected, beeps=(expected.beeps or ())[:1])
    waveform = SOUNDS[entry](path)
    assert waveform.dtype == np.float32
    assert expected.seconds is not None
    assert abs(len(waveform) / SAMPLE_RATE - expected.seconds) < 0.02 + expected.late
    check_sound(waveform, expected)


def _first_frame(path: Path) -> Any:
    return next(iter(read_media(images=[path], video=None, audio=None).images))


PICTURES: dict[str, Callable[[Path], Any]] = {
    "read_image": read_image,
    "read_media": _first_frame,
    "videollama2": load_picture,
    "requests": lambda path: np.asarray(decode("image", path.read_bytes(), MediaPolicy())),
}


@pytest.mark.parametrize("entry", PICTURES)
@pytest.mark.parametrize("name", named("image"))
def test_pictures(name: str, entry: str, file: Callable[[str], tuple[MadeFile, Path]]) -> None:
    made, path = file(name)
    if entry == "requests" and made.refused is not None:
        with pytest.raises(MediaError, match=made.refused):
            PICTURES[entry](path)
        return
    picture = PICTURES[entry](path)
    assert picture.dtype == np.uint8
    check_corners(picture, made.expected)
    if entry != "read_image":
        assert np.array_equal(picture, read_image(path))


def _read(role: str, source: Any) -> Any:
    if role == "video":
        return read_video(source, FPS)
    return read_image(source) if role == "image" else read_sound(source)[0]


REFUSING: dict[str, Callable[[str, Path], Any]] = {
    "reader": _read,
    "read_media": lambda role, path: read_media(
        images=[path] if role == "image" else [],
        video=path if role == "video" else None,
        audio=path if role == "audio" else None,
    ),
}


DAMAGED = [name for role in ("video", "image", "audio") for name in named(role, True)]


@pytest.mark.parametrize("entry", REFUSING)
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused(
    name: str, entry: str, file: Callable[[str], tuple[MadeFile, Path]]
) -> None:
    made, path = file(name)
    with pytest.raises(ConfigError, match=made.expected.error) as caught:
        REFUSING[entry](made.role, path)
    assert re.search("--allow-damaged", str(caught.value)) or not made.expected.readable


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_of_requests_are_refused(
    name: str, file: Callable[[str], tuple[MadeFile, Path]]
) -> None:
    made, path = file(name)
    with pytest.raises(MediaError):
        decode(made.role, path.read_bytes(), MediaPolicy())


@pytest.mark.parametrize("name", DAMAGED)
def test_what_can_be_decoded_of_damaged_files(
    name: str, file: Callable[[str], tuple[MadeFile, Path]]
) -> None:
    made, path = file(name)
    source = Source(path, allow_damaged=True)
    if not made.expected.readable:
        with pytest.raises(ConfigError, match=made.expected.error):
            _read(made.role, source)
        return
    found = _read(made.role, source)
    if made.role == "video":
        check_pictures(found.frames, FPS, made.expected)
        if made.expected.beeps is not None:
            check_sound(found.waveform, made.expected)
    elif made.role == "image":
        check_corners(found, made.expected)
