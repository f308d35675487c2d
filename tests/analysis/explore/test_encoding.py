from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from fastav_plugin.analysis.explore.encoding import (
    envelope,
    picture_address,
    spectrum,
    spectrum_address,
)
from fastav_plugin.display.palette import MODALITIES


def opened(address: str) -> Image.Image:
    head, _, content = address.partition(",")
    assert head in ("data:image/jpeg;base64", "data:image/png;base64")
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_pictures_are_small_and_keep_their_shape() -> None:
    pixels = np.zeros((720, 1280, 3), np.uint8)
    pixels[..., 0] = 200
    image = opened(picture_address(pixels))
    assert image.size == (256, 144)
    assert np.abs(np.asarray(image, int) - pixels[0, 0]).max() < 4
    assert opened(picture_address(pixels[:28, :28])).size == (28, 28)


def test_a_tone_is_bright_at_its_height_and_time() -> None:
    times = np.arange(16_000) / 16_000
    tone = np.where(times < 0.5, np.sin(2 * np.pi * 1000 * times), 0).astype(np.float32)
    shown = spectrum(tone)
    assert shown.shape == (56, shown.shape[1])
    row = int(shown[:, 10].argmax())
    heights = np.geomspace(8000, 80, 56)
    assert heights[row] == pytest.approx(1000, rel=0.06)
    assert shown[row, :50].min() > 0.9
    assert shown[row, -50:].max() == 0
    image = opened(spectrum_address(tone)).convert("RGB")
    assert image.size == (shown.shape[1], 56)


def test_the_spectrum_is_in_the_colour_of_audio() -> None:
    rng = np.random.default_rng(0)
    image = opened(spectrum_address(rng.normal(0, 0.1, 80_000).astype(np.float32)))
    palette = np.reshape(image.getpalette() or [], (-1, 3))
    wanted = [int(MODALITIES["audio"][place : place + 2], 16) for place in (1, 3, 5)]
    assert np.abs(palette - wanted).max(axis=1).min() <= 2


@pytest.mark.parametrize("length", [0, 1, 100, 700])
def test_short_and_silent_sounds(length: int) -> None:
    sound = np.zeros(length, np.float32)
    assert spectrum(sound).max() == 0
    assert envelope(sound, 3) == [0, 0, 0]


def test_an_envelope_is_relative_to_the_loudest() -> None:
    sound = np.array([0.1, -0.2, 0.4, 0, 0.05, 0.0], np.float32)
    assert envelope(sound, 3) == [0.5, 1, 0.125]
