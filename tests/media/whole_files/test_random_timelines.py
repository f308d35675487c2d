"""Pictures and beeps at random times in real files are found again where they were put."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fastav_plugin.media.clips import read_video
from fastav_plugin.media.sound import read_sound
from tests.media.made.drawing import Samples, beeping
from tests.media.made.writing import Sound, Track, write
from tests.media.whole_files.shown import frame_count

#: Milliseconds that each picture is shown at least, and of the grid of all times.
SHORTEST, STEP = 40, 20
#: Pictures are told apart by their grey: so many steps of so many levels.
GREYS, LEVELS = 24, 10
RATE = 16_000

few = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Timeline:
    """Times in seconds.

    Attributes:
        starts: of each picture; the last one is shown until `end`.
        end: of the pictures.
        sounds: start and length of each stretch of sound, with a beep at its start.
        offset: added to every time stamp of the file.
    """

    starts: tuple[float, ...]
    end: float
    sounds: tuple[tuple[float, float], ...]
    offset: float

    @property
    def origin(self) -> float:
        """Time 0 in these times: the pictures, or a sound that begins much earlier."""
        first = self.sounds[0][0] if self.sounds else self.starts[0]
        return first if first < self.starts[0] - 0.1 else self.starts[0]

    @property
    def length(self) -> float:
        last = sum(self.sounds[-1]) if self.sounds else 0.0
        return max(self.end, last) - self.origin

    def shown(self, time: float) -> int:
        """The number of the picture at a time from the origin."""
        starts = np.asarray(self.starts) - self.origin
        return max(0, int(np.searchsorted(starts, time + 1e-6, side="right")) - 1)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    gaps = draw(st.lists(st.integers(SHORTEST // STEP, 60), min_size=1, max_size=GREYS - 1))
    first = draw(st.integers(0, 60))
    places = np.cumsum([first, *gaps]) * STEP / 1000
    spaces = draw(
        st.lists(st.tuples(st.integers(2, 60), st.integers(15, 60)), min_size=0, max_size=4)
    )
    sounds, reached = [], 0
    for number, (space, length) in enumerate(spaces):
        # Stretches have a gap between them: the first may begin at 0.
        start = reached + (space if number else space - 2)
        sounds.append((start * STEP / 1000, length * STEP / 1000))
        reached = start + length
    offset = draw(st.sampled_from([0.0, 0.0, 3.14, 1234.0]))
    *starts, end = places.tolist()
    # Sound that begins just so much earlier may be the beginning or not: stamps are rounded.
    assume(not sounds or abs(starts[0] - sounds[0][0] - 0.1) > 0.01)
    return Timeline(tuple(starts), end, tuple(sounds), offset)


def picture(number: int) -> Any:
    return np.full((32, 48, 3), 10 + LEVELS * number, np.uint8)


def stretch(length: float) -> Samples:
    """Sound of some seconds that begins with a beep."""
    return beeping(((0.0, 1000.0),), length, RATE)


def write_timeline(path: Path, timeline: Timeline, codec: str, sound_codec: str) -> None:
    """Each picture and each packet of sound with exactly its own time."""
    pictures = [(start, picture(number)) for number, start in enumerate(timeline.starts)]
    track = Track(
        pictures,
        last=timeline.end - timeline.starts[-1],
        codec=codec,
        rate=25,
        fine=True,
        moved=lambda time: time + timeline.offset,
        options={"g": "5"},
    )
    tracks: list[Track | Sound] = [track]
    if timeline.sounds:
        packed = np.concatenate([stretch(length) for _, length in timeline.sounds], axis=1)
        tracks.append(
            Sound(packed, RATE, sound_codec, moved=_placed(timeline), chunk=round(RATE * 0.02))
        )
    write(path, *tracks)


def _placed(timeline: Timeline) -> Callable[[float], float]:
    """Where a packet belongs that would lie end to end with those before it."""

    def move(time: float) -> float:
        packed = 0.0
        for start, length in timeline.sounds:
            if time < packed + length - 1e-6:
                return time - packed + start + timeline.offset
            packed += length
        return time + timeline.offset

    return move


def expected_sound(timeline: Timeline) -> Samples:
    """What is heard from time 0 to the end of the sound."""
    last = sum(timeline.sounds[-1]) - timeline.origin
    whole = np.zeros(max(0, round(last * RATE)), np.float32)
    for start, length in timeline.sounds:
        place, piece = round((start - timeline.origin) * RATE), stretch(length)[0]
        piece, place = piece[max(0, -place) :], max(0, place)
        whole[place : place + len(piece)] = piece[: len(whole) - place]
    return whole


CODECS = [("ffv1", "pcm_s16le"), ("rawvideo", "pcm_f32le"), ("mpeg4", "pcm_s16le")]
#: One picture for two seconds; sound that is there before the first picture, and after the last.
STILL = Timeline((0.0,), 2.0, (), 0.0)
EARLY = Timeline((1.0, 1.5), 2.0, ((0.0, 0.5), (2.5, 0.5)), 3.14)
LATE = Timeline((0.06, 1.06), 2.06, ((0.0, 0.4),), 1234.0)


@pytest.mark.parametrize(("codec", "sound_codec"), CODECS)
@few
@given(timeline=timelines(), fps=st.sampled_from([1, 2, 5]))
@example(timeline=STILL, fps=2)
@example(timeline=EARLY, fps=5)
@example(timeline=LATE, fps=2)
def test_what_is_shown_and_heard_is_found_where_it_was_put(
    tmp_path: Path, codec: str, sound_codec: str, fps: int, timeline: Timeline
) -> None:
    path = tmp_path / "timeline.mkv"
    write_timeline(path, timeline, codec, sound_codec)
    video = read_video(path, fps)
    greys = video.frames.mean((1, 2, 3))
    count = frame_count(timeline.length, fps)
    assert len(greys) == count
    last = math.ceil(round((timeline.length - 0.05) * fps, 6)) - 1
    shown = [timeline.shown(min(number, max(0, last)) / fps) for number in range(count)]
    assert np.round((greys - 10) / LEVELS).astype(int).tolist() == shown
    if not timeline.sounds:
        assert video.waveform is None
        return
    wanted = expected_sound(timeline)
    (heard,) = read_sound(path)
    assert abs(len(heard) - len(wanted)) <= 1
    both = min(len(heard), len(wanted))
    assert np.allclose(heard[:both], wanted[:both], atol=1e-3)
    if video.waveform is not None:
        # The frames may end within the last twentieth of a second.
        both = min(both, len(video.waveform))
        assert both > len(heard) - 0.05 * RATE - 1
        assert np.array_equal(video.waveform[:both], heard[:both])
