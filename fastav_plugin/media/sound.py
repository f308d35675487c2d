"""The sound of media files as one channel on the file's timeline, decoded as a stream."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.files import AnySource, Source, logger, opened, pyav
from fastav_plugin.media.packets import PacketReader
from fastav_plugin.media.tracks import Tracks, read_tracks

Waveform = npt.NDArray[np.float32]


#: Samples per second of every sound that is read.
SAMPLE_RATE = 16_000

#: Seconds by which time stamps may be off before it is a gap or an overlap: they are rounded.
_JITTER = 0.01
#: Seconds: of a longer pause between stretches nothing is decoded; codecs need some to settle.
_FAR, _SETTLE = 60.0, 1.0
#: Of one frame of an untrusted sound; those of real codecs have some thousands.
_MOST_SAMPLES = 2**20
#: A track of MP4 ends within its last packet.
_ENDS_EXACTLY = ("mov,mp4,m4a,3gp,3g2,mj2",)


def read_sound(
    source: AnySource,
    stretches: Sequence[tuple[float, float]] | None = None,
    *,
    mix: bool = True,
    tracks: Tracks | None = None,
) -> list[Waveform]:
    """Decode stretches of a file's sound, as a player would play it.

    It is silent before a sound that starts late and where packets are missing or damaged; what
    overlaps is cut. Sample rate and channels may change midway.

    Args:
        source: the file.
        stretches: start and end of each in seconds; None for the whole sound as one stretch.
        mix: whether channels are mixed; else the first one is taken.
        tracks: of the file, where they are known.

    Returns:
        float32 [n] in [-1, 1] at 16 kHz for each stretch, cut off at the end of the sound.

    Raises:
        ConfigError: it cannot be read, has no sound, or most of what was tried is damaged.
    """
    source = Source.of(source)
    tracks = read_tracks(source) if tracks is None else tracks
    if tracks.sound is None and "audio" in tracks.unknown:
        raise source.fault("nothing decodes the codec of its sound")
    if tracks.sound is None:
        raise ConfigError(f"{source.name} holds no sound. Give a file with an audio stream.")
    spans = [(0.0, tracks.sound.end)] if stretches is None else list(stretches)
    if any(not 0 <= start <= stop for start, stop in spans):
        raise ConfigError(f"Stretches must be (start, end) in seconds, from 0 on, got {spans}.")
    found: list[Waveform] = [np.zeros(0, np.float32) for _ in spans]
    for group in _groups(spans, tracks.sound.seekable):
        own = [spans[index] for index in group]
        for index, waveform in zip(group, _decode(source, tracks, own, mix), strict=True):
            found[index] = waveform
    if not any(waveform.any() for waveform in found):
        whole = any(start <= 0 and stop >= tracks.sound.end for start, stop in spans)
        part = "" if whole else "what is used of "
        logger.warning("%s: %sits sound is silent.", source.name, part)
    return found


def fit_length(waveform: Waveform | None, length: int) -> Waveform:
    """A sound cut off, or followed by silence, so that it has `length` samples."""
    whole = np.zeros(length, np.float32)
    if waveform is not None:
        whole[: len(waveform)] = waveform[:length]
    return whole


def _groups(spans: Sequence[tuple[float, float]], seekable: bool) -> list[list[int]]:
    """Indices of stretches that are decoded in one go: what lies far apart is sought."""
    groups: list[list[int]] = []
    reached = 0.0
    for index in sorted(range(len(spans)), key=lambda index: spans[index][0]):
        start, stop = spans[index]
        if not groups or (seekable and start > reached + _FAR):
            groups.append([])
        groups[-1].append(index)
        reached = max(reached, stop)
    return groups


def _pauses(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Start and end of what need not be decoded before and between stretches."""
    found, reached = [], 0.0
    for start, stop in sorted(spans):
        if start > reached + _FAR:
            found.append((reached + _SETTLE if reached else -math.inf, start - _SETTLE))
        reached = max(reached, stop)
    return found


def _decode(
    source: Source, tracks: Tracks, spans: Sequence[tuple[float, float]], mix: bool
) -> list[Waveform]:
    """Stretches out of one pass over the sound."""
    firsts = [int(start * SAMPLE_RATE) for start, _ in spans]
    sizes = [round((stop - start) * SAMPLE_RATE) for start, stop in spans]
    whole = [np.zeros(size, np.float32) for size in sizes]
    end = 0
    with opened(source) as container:
        player = _Player(source, container, tracks, mix)
        for place, samples in player.play(spans):
            for first, waveform in zip(firsts, whole, strict=True):
                start, stop = max(place, first), min(place + len(samples), first + len(waveform))
                if start < stop:
                    waveform[start - first : stop - first] = samples[start - place : stop - place]
            end = max(end, place + len(samples))
            if all(end >= first + size for first, size in zip(firsts, sizes, strict=True)):
                break
    return [
        waveform[: max(0, min(size, end - first))]
        for first, size, waveform in zip(firsts, sizes, whole, strict=True)
    ]


class _Player:
    """Decodes the sound of an open container and places it in time."""

    def __init__(self, source: Source, container: Any, tracks: Tracks, mix: bool) -> None:
        assert tracks.sound is not None
        self._source = source
        self._container = container
        self._track = tracks.sound
        self._origin = tracks.origin
        self._layout = "mono" if mix else None
        self._stream = container.streams[tracks.sound.stream]
        others = () if tracks.pictures is None else (container.streams[tracks.pictures.stream],)
        # Jumps of one stream move the other: both are read where that was so.
        streams = [self._stream, *(others if not tracks.sound.seekable else ())]
        self._packets = PacketReader(container, streams)
        self._sent = self._failed = 0
        self._resumed = False  # whether decoding goes on after a part that was left out
        self._stamp: int | None = None  # of the packet that it goes on with
        if source.limits is not None:
            self._stream.codec_context.options = {"max_samples": str(_MOST_SAMPLES)}
        exact = container.format.name in _ENDS_EXACTLY
        self._last = round(self._track.end * SAMPLE_RATE) if exact else None

    def play(self, spans: Sequence[tuple[float, float]]) -> Iterator[tuple[int, Waveform]]:
        """Place, in samples from time 0, and samples; of some stretches and what lies near them."""
        start = min(start for start, _ in spans)
        if start > _FAR and self._track.seekable:
            stamp = (start - _SETTLE + self._origin) / self._stream.time_base
            self._container.seek(math.floor(stamp), stream=self._stream, backward=True)
            self._resumed = True
        run: _Run | None = None
        for frame in self._frames(_pauses(spans)):
            limits = self._source.limits
            if limits is not None and limits.check_sound is not None:
                limits.check_sound(frame)
            time = self._time(frame, run)
            if run is not None and not run.fits(frame, time):
                yield from self._placed(run.flush())
                run = None
            if run is None:
                if self._resumed:
                    cut = self._before_step(frame, time)
                    if cut >= frame.samples:
                        continue
                    self._resumed = False
                    if cut:
                        time += cut / frame.sample_rate
                        frame = _without_first(frame, cut)
                run = _Run(frame, time, self._layout)
            yield from self._placed(run.add(frame, time))
        if run is not None:
            yield from self._placed(run.flush())
        self._source.lacks(self._failed, self._sent, of="sound", instead="they are silent")

    def _frames(self, pauses: Sequence[tuple[float, float]]) -> Iterator[Any]:
        left_out = False
        for packet in self._packets:
            if packet.stream_index != self._stream.index:
                continue
            if packet.pts is not None:
                time = float(packet.pts * self._stream.time_base) - self._origin
                if any(first < time < last for first, last in pauses):
                    left_out = True
                    continue
            if left_out:
                self._stream.codec_context.flush_buffers()
                left_out, self._resumed, self._stamp = False, True, packet.pts
            yield from self._send(packet)
        yield from self._send(None)

    def _send(self, packet: Any) -> list[Any]:
        self._sent += packet is not None
        try:
            return list(self._stream.codec_context.decode(packet))
        except pyav().FFmpegError:
            self._failed += 1
            return []

    def _time(self, frame: Any, run: "_Run | None") -> float:
        stamp = self._stamp if frame.pts is None and self._resumed else frame.pts
        if stamp is None:
            return self._track.start if run is None else run.end
        time = float(stamp * self._stream.time_base) - self._origin
        limits = self._source.limits
        if limits is not None and time > limits.seconds:
            raise self._source.fault(f"it lasts longer than {limits.seconds:g} s")
        return time

    def _before_step(self, frame: Any, time: float) -> int:
        """Samples of a frame before the next one that a resampler from the start would begin with.

        So a stretch has the same samples whether or not what comes before it was decoded.
        """
        step = frame.sample_rate // math.gcd(frame.sample_rate, SAMPLE_RATE)
        return int(-round((time - self._track.start) * frame.sample_rate) % step)

    def _placed(self, pieces: Iterator[tuple[int, Waveform]]) -> Iterator[tuple[int, Waveform]]:
        for place, samples in pieces:
            if self._last is not None:
                samples = samples[: max(0, self._last - place)]
            if place < 0:
                place, samples = 0, samples[-place:]
            if len(samples):
                yield place, samples


class _Run:
    """Sound of one format without a gap, through one resampler."""

    def __init__(self, frame: Any, time: float, layout: str | None) -> None:
        self._form = _form(frame)
        self._start = time
        self._samples = 0
        self._place = round(time * SAMPLE_RATE)
        self._resampler = pyav().AudioResampler(format="fltp", layout=layout, rate=SAMPLE_RATE)

    @property
    def end(self) -> float:
        """When the samples so far end, in seconds."""
        return float(self._start + self._samples / self._form[0])

    def fits(self, frame: Any, time: float) -> bool:
        """Whether a frame goes on in the same format, without a gap."""
        return _form(frame) == self._form and time <= self.end + _JITTER

    def add(self, frame: Any, time: float) -> Iterator[tuple[int, Waveform]]:
        """Resample one more frame; what was heard already is cut off."""
        heard = round((self.end - time) * frame.sample_rate)
        if heard > _JITTER * frame.sample_rate:
            if heard >= frame.samples:
                return
            frame = _without_first(frame, heard)
        self._samples += frame.samples
        frame.pts = None  # the resampler would fill gaps on its own
        yield from self._take(self._resampler.resample(frame))

    def flush(self) -> Iterator[tuple[int, Waveform]]:
        """What the resampler still holds."""
        yield from self._take(self._resampler.resample(None))

    def _take(self, frames: Sequence[Any]) -> Iterator[tuple[int, Waveform]]:
        for frame in frames:
            samples = frame.to_ndarray()[0]
            yield self._place, samples
            self._place += len(samples)


def _form(frame: Any) -> tuple[int, str, str]:
    return frame.sample_rate, frame.layout.name, frame.format.name


def _without_first(frame: Any, count: int) -> Any:
    """An audio frame of PyAV without its first samples."""
    samples = frame.to_ndarray()
    step = 1 if frame.format.is_planar else frame.layout.nb_channels
    rest = pyav().AudioFrame.from_ndarray(
        np.ascontiguousarray(samples[:, count * step :]), frame.format.name, frame.layout.name
    )
    rest.sample_rate = frame.sample_rate
    rest.time_base = frame.time_base
    return rest
