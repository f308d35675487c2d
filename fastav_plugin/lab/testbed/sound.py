"""Samples of a clip, and when in them each sound is."""

import numpy as np
import numpy.typing as npt

from fastav_plugin.lab.testbed.world import SOUNDS, Clip, Event
from fastav_plugin.media.sound import SAMPLE_RATE

_FADE = 320


def render_waveform(clip: Clip) -> npt.NDArray[np.float32]:
    """Mix the sounds of a clip over noise.

    Args:
        clip: the clip.

    Returns:
        float32 [n] at 16 kHz, within [-1, 1].
    """
    rng = np.random.default_rng((clip.seed, 3))
    count = clip.seconds * SAMPLE_RATE
    noise = rng.standard_normal(count, dtype=np.float32)
    # Averaging neighbours takes some of the hiss out of the noise.
    noise[1:] = (noise[1:] + noise[:-1]) / 2
    waveform = noise * np.float32(rng.uniform(0.004, 0.02))
    for event in clip.events:
        start = round(event.onset * SAMPLE_RATE)
        samples = _voice(event, rng)[: count - start]
        waveform[start : start + len(samples)] += samples
    return np.clip(waveform, -1, 1, out=waveform)


def presence(clip: Clip, tokens_per_second: int) -> npt.NDArray[np.float32]:
    """Share of each audio token's time in which each sound is heard.

    Args:
        clip: the clip.
        tokens_per_second: 25 for Qwen2.5-Omni.

    Returns:
        float32 [seconds * tokens_per_second, number of sounds].
    """
    starts = np.arange(clip.seconds * tokens_per_second) / tokens_per_second
    shares = np.zeros((len(starts), len(SOUNDS)), np.float32)
    for event in clip.events:
        end = np.minimum(starts + 1 / tokens_per_second, event.offset)
        overlap = np.clip(end - np.maximum(starts, event.onset), 0, None)
        shares[:, event.sound] += overlap * tokens_per_second
    return shares


def _voice(event: Event, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """One sound at its gain, faded at both ends; order as `SOUNDS`."""
    count = round((event.offset - event.onset) * SAMPLE_RATE)
    time = np.arange(count, dtype=np.float32) / np.float32(SAMPLE_RATE)
    turn = 2 * np.pi * event.pitch * time
    phase = rng.uniform(0, 2 * np.pi)
    if event.sound == 0:
        decay = np.exp(-6 * (time % 0.4))
        wave = decay * (np.sin(2100 * turn + phase) + 0.6 * np.sin(3150 * turn))
    elif event.sound == 1:
        pulse = (time % (0.08 / event.pitch)) < 0.004
        wave = pulse * rng.standard_normal(count, dtype=np.float32)
    elif event.sound == 2:
        wave = np.sin(900 * turn + 130 * np.sin(2 * turn + phase))
    elif event.sound == 3:
        wave = sum(np.sin(120 * n * turn + phase) / n for n in range(1, 5))
    elif event.sound == 4:
        rough = rng.standard_normal(count + 2, dtype=np.float32)
        # A second difference keeps the highest frequencies.
        wave = rough[2:] - 2 * rough[1:-1] + rough[:-2]
    else:
        wave = np.sin(1250 * turn + phase) * (np.sin(5 * turn) > -0.2)
    wave = np.asarray(wave, np.float32)
    fade = min(_FADE, count // 2)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    wave[:fade] *= ramp
    wave[count - fade :] *= ramp[::-1]
    level = float(np.sqrt(np.mean(wave * wave))) + 1e-6
    return np.clip(wave * np.float32(event.gain / level), -0.9, 0.9)
