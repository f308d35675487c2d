"""Pictures of a page as data addresses, so that it needs no other file."""

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.display.palette import MODALITIES
from fastav_plugin.media.presentation import Frames
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform

#: Pixels of the longer edge of a picture, and JPEG's quality.
_EDGE, _QUALITY = 256, 82
#: Pixels of a spectrum, samples of a window, and decibels from its black to its brightest.
_WIDE, _TALL, _WINDOW, _RANGE = 480, 56, 512, 55.0
#: Lowest frequency of a spectrum, in Hz.
_LOWEST = 80.0


def picture_address(pixels: Frames) -> str:
    """A picture, uint8 [H, W, 3], as a small JPEG."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((_EDGE, _EDGE))
    return _address(image, "jpeg", quality=_QUALITY)


def spectrum_address(waveform: Waveform) -> str:
    """A sound's spectrum over time as a PNG: low tones below, from dark to the colour of audio."""
    from PIL import Image

    # Pillow finds a palette of its own only for pictures with more than one value.
    levels = (255 * spectrum(waveform)).round().astype(np.uint8)
    image = Image.fromarray(levels)
    image.putpalette(_ramp())
    return _address(image, "png", optimize=True)


def spectrum(waveform: Waveform) -> npt.NDArray[np.float64]:
    """Loudness over time and frequency, as shares of a range below the loudest.

    Args:
        waveform: float32 [n] at 16 kHz.

    Returns:
        float64 [56, w], w at most 480: the highest tone first, in equal steps of its logarithm.
    """
    short = max(0, _WINDOW - len(waveform))
    samples = np.pad(waveform.astype(np.float64), (0, short))
    count = min(_WIDE, 1 + (len(samples) - _WINDOW) // (_WINDOW // 4))
    starts = np.linspace(0, len(samples) - _WINDOW, count).astype(int)
    windows = samples[starts[:, None] + np.arange(_WINDOW)] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(windows)) ** 2  # [w, bins]
    tones = np.geomspace(SAMPLE_RATE / 2, _LOWEST, _TALL) * _WINDOW / SAMPLE_RATE
    picked = np.stack([np.interp(tones, np.arange(power.shape[1]), one) for one in power], axis=1)
    decibels = 10 * np.log10(picked / max(float(picked.max()), 1e-12) + 1e-12)
    return np.asarray((1 + decibels / _RANGE).clip(0, 1))


def envelope(waveform: Waveform, count: int) -> list[float]:
    """The loudest sample of each of so many equal parts, as a share of the whole's loudest."""
    parts = np.array_split(np.abs(waveform), max(1, count))
    peaks = np.array([part.max() if part.size else 0.0 for part in parts], np.float64)
    return [round(float(peak), 3) for peak in peaks / max(float(peaks.max()), 1e-6)]


def _ramp() -> list[int]:
    """256 colours: dark, the colour of audio, nearly white."""
    colour = MODALITIES["audio"]
    middle = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    stops = np.array([(16, 20, 28), middle, (255, 240, 205)], np.float64)
    shades = [np.interp(np.linspace(0, 2, 256), (0, 1, 2), stops[:, part]) for part in range(3)]
    return [int(value) for value in np.stack(shades, axis=1).round().ravel()]


def _address(image: Any, form: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(file.getvalue()).decode()}"
