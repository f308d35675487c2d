"""Small real files: pictures whose colour tells their time, sound whose pitch does."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from fastav_plugin.lab.testbed.media import write_media

SAMPLE_RATE = 16_000


def frames_of(seconds: float, fps: int = 8) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Frames that get brighter: uint8 [T, 64, 96, 3]."""
    count = round(seconds * fps)
    grey = np.linspace(20, 230, count).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (count, 64, 96, 3)).copy()


def rising_tone(seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A tone that rises from 200 Hz by 100 Hz a second, over a little noise."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(0).normal(0, 0.01, len(time))
    tone = 0.3 * np.sin(2 * np.pi * (200 * time + 50 * time**2))
    return (tone + noise).astype(np.float32)


def write_heard(path: Path, seconds: float) -> Path:
    """A clip with sound."""
    write_media(path, frames_of(seconds), rising_tone(seconds), 8)
    return path


def write_mute(path: Path, seconds: float) -> Path:
    """A clip without a sound track."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.options = {"threads": "1"}
        for frame in frames_of(seconds):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path, channels: list[np.ndarray[tuple[int], np.dtype[np.float32]]]) -> Path:
    """A wav file of one or two channels at 16 kHz."""
    samples = (np.stack(channels, axis=1).reshape(1, -1) * 32767).astype(np.int16)
    layout = "mono" if len(channels) == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
