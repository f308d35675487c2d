from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fastav_plugin.lab.testbed.picture import cover, frame_times, render_frames
from fastav_plugin.lab.testbed.sound import presence, render_waveform
from fastav_plugin.lab.testbed.tasks import CHANCE, TASKS, ask, held_out_items, training_questions
from fastav_plugin.lab.testbed.world import (
    SOUNDS,
    Difficulty,
    is_held_out,
    sample_clip,
)
from fastav_plugin.media.sound import SAMPLE_RATE


def _has_held_out(seed: int, difficulty: Difficulty) -> bool:
    clip = sample_clip(seed, difficulty)
    return any(
        is_held_out(thing.shape, thing.colour, event.sound)
        for thing in clip.things
        for event in clip.events
    )


def test_a_seed_names_one_clip() -> None:
    first, again, other = sample_clip(7), sample_clip(7), sample_clip(8)
    assert first == again != other
    times = frame_times(first, 2)
    assert np.array_equal(render_frames(first, times), render_frames(again, times))
    assert np.array_equal(render_waveform(first), render_waveform(again))


@pytest.mark.parametrize("held_out", [False, True])
def test_held_out_combinations_are_kept_apart(held_out: bool) -> None:
    difficulty = Difficulty(2, held_out=held_out)
    assert all(_has_held_out(seed, difficulty) == held_out for seed in range(100))


@pytest.mark.parametrize("seconds", [2, 8])
def test_events_stay_in_one_half_of_the_clip(seconds: int) -> None:
    for seed in range(50):
        for event in sample_clip(seed, Difficulty(seconds)).events:
            half = seconds / 2 * event.is_late(seconds)
            assert half <= event.onset < event.offset <= half + seconds / 2


def test_rendering_has_the_promised_shapes() -> None:
    clip = sample_clip(3)
    frames, waveform = render_frames(clip, frame_times(clip, 2)), render_waveform(clip)
    assert frames.shape == (16, 112, 112, 3)
    assert frames.dtype == np.uint8
    assert waveform.shape == (8 * SAMPLE_RATE,)
    assert waveform.dtype == np.float32
    assert np.abs(waveform).max() <= 1


def test_dense_labels_follow_the_clip() -> None:
    clip = sample_clip(3)
    thing, event = clip.things[0], clip.events[0]
    middle = (thing.onset + thing.offset) / 2
    assert cover(thing, middle, 28).max() > 0.3
    assert not cover(thing, thing.offset, 28).any()
    shares = presence(clip, 25)
    assert shares.shape == (200, len(SOUNDS))
    heard = shares[:, event.sound].sum() / 25
    assert heard == pytest.approx(event.offset - event.onset, abs=1e-4)


def test_the_grain_of_a_frame_does_not_depend_on_the_frame_rate() -> None:
    clip = sample_clip(5)
    sparse, dense = (render_frames(clip, frame_times(clip, rate)) for rate in (2, 8))
    assert np.array_equal(sparse, dense[::4])


def test_questions_are_balanced() -> None:
    items = held_out_items(100, difficulty=Difficulty(2))
    answers: dict[str, Counter[str]] = {task: Counter() for task in TASKS}
    for item in items:
        answers[item.question.task][item.question.answer] += 1
    for task, counts in answers.items():
        assert counts.total() == 100
        # Four standard deviations of a fair draw.
        slack = 4 * (CHANCE[task] * (1 - CHANCE[task]) / 100) ** 0.5
        assert max(counts.values()) / 100 < CHANCE[task] + slack, task


def test_answers_agree_with_the_clip() -> None:
    for seed in range(100):
        clip, rng = sample_clip(seed), np.random.default_rng(seed)
        names = {SOUNDS[event.sound] for event in clip.events}
        heard = ask("heard", clip, rng)
        assert heard is not None
        assert (heard.text.removeprefix("Is the ").removesuffix(" heard?") in names) == (
            heard.answer == "yes"
        )
        sound = ask("sound", clip, rng)
        assert (sound is None) == (len(clip.events) == 2)
        match = ask("match", clip, rng)
        if match is not None:
            assert (match.answer == "yes") == (clip.sounds <= clip.shapes)
        assert len(training_questions(clip, rng, 12)) == 12
