"""Sentences joined to one sound: speakers in turn, pauses between, noise underneath."""

import random
from collections.abc import Sequence

import numpy as np

from fastav_plugin.lab.real_audio.frames import SAMPLE_RATE

_NOISES = ("white", "pink", "hum", "wind")
#: Shares of clips with noise, and with long pauses.
_NOISY, _SLOW = 0.6, 0.25


def draw_pauses(source: random.Random, count: int) -> list[float]:
    """Seconds of silence before each of `count` sentences and after the last."""
    longest = 2.5 if source.random() < _SLOW else 0.7
    inner = [source.uniform(0.15, longest) for _ in range(count - 1)]
    return [source.uniform(0.05, 0.6), *inner, source.uniform(0.1, 0.5)]


def join(
    sentences: Sequence[np.ndarray], pauses: Sequence[float], levels: Sequence[float]
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Put sentences one after another.

    Args:
        sentences: float32 samples of each, peak 1.
        pauses: seconds before each and after the last.
        levels: peak of each.

    Returns:
        The sound, and start and end of each sentence in seconds.
    """
    parts: list[np.ndarray] = []
    spans = []
    place = 0
    for sentence, pause, level in zip(sentences, pauses, levels, strict=False):
        silence = np.zeros(round(pause * SAMPLE_RATE), np.float32)
        parts += [silence, sentence * np.float32(level)]
        start = place + len(silence)
        place = start + len(sentence)
        spans.append((round(start / SAMPLE_RATE, 3), round(place / SAMPLE_RATE, 3)))
    parts.append(np.zeros(round(pauses[-1] * SAMPLE_RATE), np.float32))
    return np.concatenate(parts), spans


def add_noise(source: random.Random, sound: np.ndarray) -> tuple[np.ndarray, str]:
    """The sound over noise of a kind that is drawn, 10 to 35 dB below it; and the kind's name."""
    if source.random() >= _NOISY:
        return sound, "none"
    kind = source.choice(_NOISES)
    noise = _noise(np.random.default_rng(source.getrandbits(32)), kind, len(sound))
    power = float(np.mean(np.square(sound)))
    ratio = 10 ** (source.uniform(10, 35) / 10)
    scaled = noise * np.sqrt(power / ratio / float(np.mean(np.square(noise))))
    mixed = sound + scaled.astype(np.float32)
    return mixed / max(1.0, float(np.abs(mixed).max())), kind


def _noise(source: np.random.Generator, kind: str, length: int) -> np.ndarray:
    time = np.arange(length) / SAMPLE_RATE
    if kind == "hum":
        tones = [np.sin(2 * np.pi * 50 * n * time + source.uniform(0, 6)) / n for n in (1, 2, 3, 5)]
        hum: np.ndarray = np.sum(tones, axis=0)
        return hum
    white = source.standard_normal(length)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white)
    frequency = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 40)), length)
    if kind == "pink":
        return pink
    # Wind: swells of the same noise.
    return pink * (1.2 + np.sin(2 * np.pi * source.uniform(0.1, 0.5) * time + source.uniform(0, 6)))
