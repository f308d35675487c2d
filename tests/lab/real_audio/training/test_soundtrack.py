"""Sentences are where their spans say, and noise is as loud as drawn."""

import random

import numpy as np

from fastav_plugin.lab.real_audio.training.soundtrack import add_noise, draw_pauses, join

RATE = 16_000


def test_spans_hold_the_sentences() -> None:
    sentences = [np.full(800, 1, np.float32), np.full(1600, -1, np.float32)]
    sound, spans = join(sentences, [0.1, 0.25, 0.05], [0.5, 0.25])
    assert spans == [(0.1, 0.15), (0.4, 0.5)]
    assert len(sound) == round(0.55 * RATE)
    assert (sound[1600:2400] == 0.5).all()
    assert (sound[6400:8000] == -0.25).all()
    assert np.count_nonzero(sound) == 2400


def test_there_is_a_pause_around_each_sentence() -> None:
    for seed in range(50):
        pauses = draw_pauses(random.Random(seed), 4)
        assert len(pauses) == 5
        assert min(pauses) > 0
        assert max(pauses) <= 2.5


def test_noise_is_10_to_35_decibels_below() -> None:
    sound = (0.3 * np.sin(np.arange(2 * RATE) / 5)).astype(np.float32)
    kinds = set()
    for seed in range(60):
        mixed, kind = add_noise(random.Random(seed), sound)
        kinds.add(kind)
        difference = float(np.mean(np.square(mixed - sound)))
        if kind == "none":
            assert difference == 0
        else:
            ratio = 10 * np.log10(float(np.mean(np.square(sound))) / difference)
            assert 9.9 < ratio < 35.1
    assert kinds == {"none", "white", "pink", "hum", "wind"}
