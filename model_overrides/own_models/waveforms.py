"""Sounds in memory, checked before a model takes them at the wrong scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastav_plugin.errors import ConfigError
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform

#: Peaks above this are taken for another scale; resampling overshoots 1 by less.
_LOUDEST = 16.0


def check_waveform(samples: Any) -> Waveform:
    """A sound in memory as the models take it.

    Args:
        samples: float [n] in [-1, 1]; array, tensor or list.

    Returns:
        float32 [n] at 16 kHz.

    Raises:
        ConfigError: other than one channel, integers, values far outside, or not finite ones.
    """
    found = np.asarray(samples)
    kind = type(samples).__name__
    if found.ndim != 1:
        raise ConfigError(
            f"A sound must be a path or samples [n] at {SAMPLE_RATE} Hz, got {kind} of shape "
            f"{list(found.shape)}."
        )
    # An empty list has no type of its own.
    if found.size and not np.issubdtype(found.dtype, np.floating):
        raise ConfigError(
            f"Samples must be floats in [-1, 1], got {kind} of {found.dtype}. Divide integers of "
            "16 bits by 32768."
        )
    peak = float(np.abs(found).max(initial=0.0))
    if not peak <= _LOUDEST:
        raise ConfigError(
            f"Samples must be floats in [-1, 1], got {kind} with {peak:g}. Divide integers of 16 "
            "bits by 32768, and leave out what is not finite."
        )
    return found.astype(np.float32)
