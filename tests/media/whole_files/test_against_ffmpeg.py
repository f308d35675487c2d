"""Made files as the program ffmpeg decodes them, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastav_plugin.media.clips import read_video
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform, read_sound
from tests.media.made import FILES

FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(FFMPEG is None, reason="the program ffmpeg is not installed")

FPS = 2.0
#: What of it is compared: files that are whole, of which one track of each kind is played.
KINDS = ("containers", "timelines", "offsets", "clocks", "presentation")
#: Where ffmpeg is no player.
DIFFERENT = {
    "containers/animated.webp": "older ones do not read it",
    "containers/bare.h264": "it has no times at all",
    "clocks/clock-restarts.ts": "it joins the parts in its own way",
    "clocks/clock-hours-later.ts": "it joins the parts in its own way",
    "sounds/chained.ogg": "with its own times it loses the second part",
    "sounds/chained.opus": "with its own times it loses the second part",
    "presentation/untagged-large.mp4": "takes untagged colours for BT.601 at any size",
    "presentation/window.mp4": "crops from version 7.1 on",
    "presentation/window.mkv": "crops from version 7.1 on",
}
CLIPS = [
    name
    for name, made in FILES.items()
    if name.split("/")[0] in KINDS and made.role == "video" and name not in DIFFERENT
]
SOUNDS = [
    name
    for name, made in FILES.items()
    if made.role == "audio" and made.expected.error is None and name not in DIFFERENT
]
#: Pixels that are not square, which ffmpeg leaves as they are, made square.
SQUARE = (
    "scale=w='if(gte(sar,1),round(iw*sar),iw)':h='if(gte(sar,1),ih,round(ih/sar))':flags=bilinear"
)


def run(path: Path, *options: str) -> bytes:
    """What ffmpeg writes to its standard output."""
    command = [str(FFMPEG), "-v", "error", "-copyts", "-i", str(path), *options, "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def stamps(path: Path, track: str) -> list[tuple[float, int]]:
    """Time of each decoded frame in seconds, and bytes of it."""
    options = ("-fps_mode", "passthrough", "-enc_time_base", "demux") if ":v:" in track else ()
    text = run(path, "-map", track, *options, "-f", "framecrc")
    lines = text.decode().splitlines()
    base = next(line.split()[-1] for line in lines if line.startswith("#tb 0:")).split("/")
    fields = [line.split(",") for line in lines if not line.startswith("#")]
    unit = int(base[0]) / int(base[1])
    return [(int(field[2]) * unit, int(field[4])) for field in fields]


def pictures(path: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """All decoded pictures: uint8 [T, H, W, 3]."""
    options = ("-map", "0:v:0", "-fps_mode", "passthrough", "-vf", SQUARE)
    data = run(path, *options, "-f", "rawvideo", "-pix_fmt", "rgb24")
    return np.frombuffer(data, np.uint8).reshape(-1, *size, 3)


def sound(path: Path) -> Waveform:
    """The sound from its first sample on, gaps filled: float32 [n] at 16 kHz."""
    filters = ("-af", "aresample=async=1:min_hard_comp=0.01", "-ac", "1", "-ar", str(SAMPLE_RATE))
    return np.frombuffer(run(path, "-map", "0:a:0", *filters, "-f", "f32le"), np.float32)


def loudness(waveform: Waveform, start: float, length: float) -> npt.NDArray[np.float64]:
    """Mean amplitude of each tenth of a second from time 0 on, of a sound that starts then."""
    place, whole = round(start * SAMPLE_RATE), np.zeros(round(length * SAMPLE_RATE))
    found = np.abs(waveform[max(0, -place) :])
    part = whole[max(0, place) :][: len(found)]
    part[:] = found[: len(part)]
    window = SAMPLE_RATE // 10
    return np.asarray(whole[: len(whole) // window * window].reshape(-1, window).mean(1))


@pytest.mark.parametrize("name", CLIPS)
def test_clips(name: str, tmp_path: Path) -> None:
    made = FILES[name]
    path = tmp_path / made.name
    made.write(path)
    video = read_video(path, FPS)
    times = [time for time, _ in stamps(path, "0:v:0")]
    heard = None if made.expected.beeps is None else stamps(path, "0:a:0")[0][0]
    origin = heard if heard is not None and heard < times[0] - 0.1 else times[0]
    every: Any = pictures(path, video.frames.shape[1:3])
    assert len(every) == len(times)
    for number, picture in enumerate(video.frames[:-1]):
        moment = origin + number / FPS + 1.5e-3
        shown = every[max(0, int(np.searchsorted(times, moment, side="right")) - 1)]
        assert np.abs(picture.astype(int) - shown.astype(int)).mean() < 4, number / FPS
    if heard is not None:
        check_sound(path, heard - origin)


def check_sound(path: Path, start: float) -> None:
    """What is read is as loud at each time as ffmpeg's, which starts at `start`."""
    (ours,) = read_sound(path)
    length = len(ours) / SAMPLE_RATE
    theirs = loudness(sound(path), start, length)
    assert np.abs(loudness(ours, 0.0, length) - theirs).max() < 0.12


@pytest.mark.parametrize("name", SOUNDS)
def test_sounds(name: str, tmp_path: Path) -> None:
    path = tmp_path / FILES[name].name
    FILES[name].write(path)
    check_sound(path, 0.0)
