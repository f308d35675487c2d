"""Spoken clips, each drawn from its own seed."""

import random
from dataclasses import asdict, dataclass

import numpy as np

from fastav_plugin.lab.real_audio.frames import SAMPLE_RATE
from fastav_plugin.lab.real_audio.training.facts import Question, draw_facts, draw_questions
from fastav_plugin.lab.real_audio.training.soundtrack import add_noise, draw_pauses, join
from fastav_plugin.lab.real_audio.training.vocabulary import NAMES, TEST_NAMES
from fastav_plugin.lab.real_audio.training.voices import Voice, draw_voice

#: Numbers of facts and how often each is drawn, of training and of test clips.
_COUNTS = ((2, 3, 4, 5, 6), (38, 34, 16, 8, 4))
_TEST_COUNTS = ((3, 4, 5, 6), (40, 30, 20, 10))
_TWO_SPEAKERS = 0.35
#: Share of test clips whose names no training clip has.
_NEW_NAMES = 0.15
_LONGEST = 29.5


@dataclass(frozen=True)
class Clip:
    """A clip without its sound.

    Args:
        name: of the clip, which is also its seed.
        sentences: the facts as they are said.
        spans: start and end of each in seconds.
        questions: about the clip.
        voices: of the speakers.
        noise: its kind, or "none".
        seconds: length of the clip.
        new_names: whether no training clip has its names.
    """

    name: str
    sentences: list[str]
    spans: list[tuple[float, float]]
    questions: list[Question]
    voices: list[str]
    noise: str
    seconds: float
    new_names: bool

    def to_dict(self) -> dict[str, object]:
        """As JSON takes it."""
        return asdict(self)


def make_clip(name: str, *, test: bool) -> tuple[Clip, np.ndarray]:
    """The clip of a name and its sound.

    Args:
        name: seeds everything that is drawn.
        test: whether it has a test clip's voices and may have new names.

    Returns:
        The clip, and float32 samples at 16 kHz, at most 30 s.
    """
    source = random.Random(name)
    while True:
        clip, sound = _draw(source, name, test)
        if clip.seconds <= _LONGEST:
            return clip, sound


def _draw(source: random.Random, name: str, test: bool) -> tuple[Clip, np.ndarray]:
    new_names = test and source.random() < _NEW_NAMES
    names = TEST_NAMES if new_names else NAMES
    counts, weights = _TEST_COUNTS if test else _COUNTS
    facts = draw_facts(source, source.choices(counts, weights)[0], names)
    voices = _draw_voices(source, test)
    loudness = [source.uniform(0.3, 0.8) for _ in voices]
    speakers = [source.randrange(len(voices)) for _ in facts]
    said = [voices[who].say(fact.text) for who, fact in zip(speakers, facts, strict=True)]
    sound, spans = join(said, draw_pauses(source, len(facts)), [loudness[who] for who in speakers])
    sound, noise = add_noise(source, sound)
    clip = Clip(
        name=name,
        sentences=[fact.text for fact in facts],
        spans=spans,
        questions=draw_questions(source, facts, names),
        voices=[voice.name for voice in voices],
        noise=noise,
        seconds=round(len(sound) / SAMPLE_RATE, 3),
        new_names=new_names,
    )
    return clip, sound


def _draw_voices(source: random.Random, test: bool) -> list[Voice]:
    count = 2 if source.random() < _TWO_SPEAKERS else 1
    return [draw_voice(source, test) for _ in range(count)]
