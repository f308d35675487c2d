"""Single frames out of a media file of any length, decoded as a stream.

No more is held than what is asked for: frames are found by seeking to the key frame before them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.files import opened

Frames = npt.NDArray[np.uint8]

#: Frames taken of each second where nobody says otherwise.
FRAMES_PER_SECOND = 2

#: Containers whose index has the exact time of every frame; in others a seek may miss.
_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
#: Frames over which a stream is decoded rather than searched, and compared with its index first.
_FAR = 64


class _Lost(Exception):
    """Frames do not come out in the order of the index."""


def read_image(path: str | Path) -> Frames:
    """Read a picture file: uint8 [H, W, 3], RGB."""
    with opened(path) as container:
        for frame in container.decode(video=0):
            return pixels(frame)
    raise ConfigError(f"Cannot read the media file '{path}': it holds no picture.")


def count_frames(path: str | Path) -> int:
    """Video frames of a file, decoded only where it has no index of them; 0 without pictures."""
    with opened(path) as container:
        pictures = bool(container.streams.video)
    return len(frame_seconds(path)) if pictures else 0


def frame_seconds(path: str | Path) -> list[float]:
    """Presentation time of every frame in seconds, in order.

    Frames are decoded for it only where the container has no index of them.

    Raises:
        ConfigError: also if the file has no pictures.
    """
    times = _index(path)
    with opened(path) as container:
        if times is not None:
            return [float(time * container.streams.video[0].time_base) for time in times]
        return [float(frame.time or 0.0) for frame in container.decode(video=0)]


def sample(timed: Iterable[tuple[float, Any]], fps: float) -> Iterator[tuple[float, Any]]:
    """Take `fps` frames of each second: the first at or after each point of a regular grid.

    Frames, or what stands for them, come with ascending times in seconds; those taken go on with
    the time since the first one.
    """
    start: float | None = None
    taken = 0
    for time, item in timed:
        start = time if start is None else start
        if time - start >= taken / fps - 1e-3:
            taken += 1
            yield time - start, item


def decode_sampled(container: Any, fps: float) -> Iterator[tuple[float, Any]]:
    """Decode the pictures of an open container and take `fps` of each second.

    Yields seconds since the first frame, and the frame as PyAV's; `pixels` makes an array of it.
    """
    return sample(((float(f.time or 0.0), f) for f in container.decode(video=0)), fps)


def spread(count: int, most: int | None = None) -> list[int]:
    """Indices of at most `most` of `count` frames, spread evenly; always an even number.

    An odd last frame stands twice: processors merge frames in pairs.
    """
    whole = count + count % 2
    if most is None or whole <= most:
        return [min(index, count - 1) for index in range(whole)]
    points = np.linspace(0, whole - 1, max(2, most - most % 2)).round()
    return [min(int(point), count - 1) for point in points]


def pixels(frame: Any, longest_edge: int | None = None) -> Frames:
    """A decoded frame of PyAV as uint8 [H, W, 3], RGB, scaled down where an edge is longer."""
    size: dict[str, int] = {}
    if longest_edge is not None:
        scale = min(1.0, longest_edge / max(frame.width, frame.height))
        size = {name: max(2, round(getattr(frame, name) * scale)) for name in ("width", "height")}
    return np.asarray(frame.to_ndarray(format="rgb24", **size), np.uint8)


def stream_frames(path: str | Path, indices: Sequence[int]) -> Iterator[Frames]:
    """Decode some frames of a file, one at a time: uint8 [H, W, 3], RGB.

    Args:
        path: the file.
        indices: numbers of the frames, ascending, counted from 0; a number may come twice.

    Yields:
        One picture for each index; fewer where the file ends before its index says.
    """
    times = Counter(indices)
    for number, frame in _frames_at(path, sorted(times)):
        picture = pixels(frame)
        yield from [picture] * times[number]


def _index(path: str | Path) -> list[int] | None:
    """Presentation time of every frame in order, in the stream's time base; None if unknown."""
    with opened(path) as container:
        if not container.streams.video:
            raise ConfigError(f"'{path}' holds no pictures. Give a file with a video stream.")
        if container.format.name not in _INDEXED:
            return None
        packets = (p for p in container.demux(video=0) if p.size and not p.is_discard)
        times = [p.pts for p in packets]
    return None if None in times or len(set(times)) < len(times) else sorted(times)


def _frames_at(path: str | Path, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Each wanted frame with its number; ascending."""
    times = _index(path)
    found = 0
    if times is not None:
        try:
            for pair in _sought(path, times, [n for n in wanted if n < len(times)]):
                yield pair
                found += 1
            return
        except _Lost:
            pass
    rest = set(wanted[found:])
    with opened(path) as container:
        for pair in enumerate(container.decode(video=0)):
            if pair[0] in rest:
                yield pair


def _sought(
    path: str | Path, times: Sequence[int], wanted: Sequence[int]
) -> Iterator[tuple[int, Any]]:
    """The wanted frames by seeking to the key frame before them.

    Raises:
        _Lost: what comes out is not what the index says.
    """
    numbers = {time: number for number, time in enumerate(times)}
    with opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        decoder = container.decode(video=0)
        reached = -1
        for number in wanted:
            sought = number - reached > _FAR
            if sought and reached < 0:
                # A look at the beginning tells whether the index can be trusted.
                for place, frame in zip(range(_FAR // 4), decoder, strict=False):
                    if numbers.get(frame.pts) != place:
                        raise _Lost
            if sought:
                container.seek(times[number], stream=stream, backward=True)
                decoder = container.decode(video=0)
            for frame in decoder:
                place = numbers.get(frame.pts, -1)
                expected = reached + 1 if not sought else place
                if place != expected or not 0 <= place <= number:
                    raise _Lost
                reached, sought = place, False
                if reached == number:
                    yield number, frame
                    break
            else:
                return
