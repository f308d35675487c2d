"""Pictures far apart in long clips of every container: exactly those that are shown then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastav_plugin.media.clips import read_video
from tests.media.made.drawing import Picture
from tests.media.made.writing import Track, write
from tests.media.whole_files.shown import frame_count

COUNT, RATE, BITS = 600, 25, 10
BETTER = {"preset": "medium", "g": "48"}
OPEN = {"x264-params": "open-gop=1:keyint=50:bframes=3:b-adapt=0:scenecut=0"}

CLIPS: dict[str, Mapping[str, Any]] = {
    "h264.mp4": {"options": BETTER},
    "fragments.mp4": {"options": BETTER, "muxing": {"movflags": "frag_keyframe+empty_moov"}},
    "open-gop.mkv": {"options": BETTER | OPEN},
    "live.mkv": {"options": BETTER, "muxing": {"live": "1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "64"}},
    "hevc.mp4": {
        "codec": "libx265",
        "options": {"x265-params": "log-level=none:keyint=60:pools=none"},
    },
    "av1.mp4": {"codec": "libsvtav1", "options": {"g": "60"}},
    "h264.ts": {"options": BETTER},
    "h264.avi": {"options": BETTER},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "30", "bf": "2"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"g": "15", "bf": "2"}},
    "h264.flv": {"options": BETTER},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}
#: Containers with times of their own for each picture.
EXACT = [name for name in CLIPS if not name.endswith((".avi", ".mpg", ".flv"))]


def numbered(number: int) -> Picture:
    """A picture with a number in it: a light bar for each bit."""
    picture = np.full((64, 96, 3), 20, np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            picture[:, 8 * bit : 8 * bit + 8] = 230
    return picture


def number_of(picture: Picture) -> int:
    """The number in a picture."""
    return sum(1 << bit for bit in range(BITS) if picture[32, 8 * bit + 4].mean() > 125)


def starts(irregular: bool) -> list[float]:
    """When each picture is shown first, in seconds."""
    steps = np.full(COUNT, 1 / RATE)
    if irregular:
        steps = np.random.default_rng(0).choice(
            [0.04, 0.08, 0.2, 1.0], COUNT, p=[0.6, 0.2, 0.1, 0.1]
        )
        # The last ones are regular, or the end would be that of a picture before the last one.
        steps[-20:] = 0.04
    return [round(float(start), 3) for start in np.cumsum(steps) - steps]


@pytest.mark.parametrize(
    ("name", "irregular"), [(name, False) for name in CLIPS] + [(name, True) for name in EXACT]
)
def test_far_frames_are_those_shown_then(name: str, irregular: bool, tmp_path: Path) -> None:
    settings = dict(CLIPS[name])
    muxing = settings.pop("muxing", None)
    times = starts(irregular)
    pictures = [(time, numbered(number)) for number, time in enumerate(times)]
    track = Track(pictures, last=1 / RATE, rate=RATE, fine=irregular, **settings)
    write(tmp_path / name, track, options=muxing)
    end = times[-1] + 1 / RATE
    for fps, most in ((1, 2), (2, 8), (5, 16)):
        video = read_video(tmp_path / name, fps, most)
        whole = frame_count(end, fps)
        last = int(np.ceil(round((end - 0.05) * fps, 6))) - 1
        moments = [min(place, last) / fps for place in np.linspace(0, whole - 1, most).round()]
        wanted = np.searchsorted(times, np.asarray(moments) + 1.5e-3, side="right") - 1
        assert [number_of(picture) for picture in video.frames] == wanted.tolist(), (fps, most)
