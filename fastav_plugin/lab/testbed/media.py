"""Clips of the synthetic world as real mp4 files: H.264 pictures and AAC sound."""

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastav_plugin.lab.testbed.picture import frame_times, render_frames
from fastav_plugin.lab.testbed.sound import render_waveform
from fastav_plugin.lab.testbed.world import Clip
from fastav_plugin.media.clips import read_clip
from fastav_plugin.media.files import pyav
from fastav_plugin.media.sound import SAMPLE_RATE

FILE_FRAMES_PER_SECOND = 8


def write_clip(path: str | Path, clip: Clip) -> None:
    """Render a clip and write it as an mp4 file with an audio track.

    Args:
        path: file to write; an existing one is replaced.
        clip: the clip.
    """
    frames = render_frames(clip, frame_times(clip, FILE_FRAMES_PER_SECOND))
    write_media(path, frames, render_waveform(clip), FILE_FRAMES_PER_SECOND)


def through_a_file(clip: Clip) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Frames and samples of a clip, written as an mp4 file and read back as `read_clip` does.

    Raises:
        UnsupportedError: PyAV is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, clip)
        return read_clip(path)


def write_media(
    path: str | Path,
    frames: npt.NDArray[np.uint8],
    waveform: npt.NDArray[np.float32],
    frames_per_second: int,
) -> None:
    """Encode frames and samples as H.264 and AAC.

    Args:
        path: file to write.
        frames: uint8 [T, H, W, 3], RGB.
        waveform: float32 [n] at 16 kHz, within [-1, 1].
        frames_per_second: of `frames`.
    """
    av = pyav()

    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=frames_per_second)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        # One thread and no macroblock tree: the same bytes on every run.
        video.options = {
            "crf": "20",
            "preset": "veryfast",
            "threads": "1",
            "x264-params": "no-mbtree=1:rc-lookahead=0",
        }
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.bit_rate = 64_000
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(waveform[None, :], format="fltp", layout="mono")
        samples.sample_rate = SAMPLE_RATE
        samples.time_base = Fraction(1, SAMPLE_RATE)
        samples.pts = 0
        container.mux(audio.encode(samples))
        container.mux(audio.encode(None))
