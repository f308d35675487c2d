"""The sample clips under the names that published files give their media."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np

from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.clips import read_clip

FILES = Path(__file__).parents[2] / "data" / "datasets"
#: Other names of the clips "matching", "crowded" and "single".
_VIDEOS = {
    "matching": ("00000001", "00191", "matching_000030", "v_1QIUV7WYKXg", "matching"),
    "crowded": ("00000002", "00192", "v_2WmVn7cKvJQ", "crowded"),
    "single": ("00000003", "00193", "single_000010", "single"),
}
_PICTURES = {
    "matching": ("COCO_val2014_000000000001", "000000000001"),
    "crowded": ("COCO_val2014_000000000002", "000000000002"),
}
MEDIA_NAMES = [
    *(f"{name}.mp4" for names in _VIDEOS.values() for name in names),
    *(f"{name}.jpg" for names in _PICTURES.values() for name in names),
]


def write_media(folder: Path) -> None:
    """Put clips, and a picture of two of them, into a folder."""
    for sample in SAMPLES:
        for name in _VIDEOS[sample.name]:
            shutil.copy(sample.path, folder / f"{name}.mp4")
        for name in _PICTURES.get(sample.name, ()):
            frames, _ = read_clip(sample.path)
            write_picture(folder / f"{name}.jpg", frames[0])


def write_picture(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Write a picture, uint8 [H, W, 3], as JPEG."""
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuvj444p"
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
