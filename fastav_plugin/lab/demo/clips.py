"""Clips of the demonstration: those that ship with the package, and the user's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastav_plugin.errors import ConfigError
from fastav_plugin.lab.demo.own_clip import check_questions, read_start
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.clips import read_clip


@dataclass(frozen=True)
class DemoClip:
    """A clip and what is asked about it.

    Attributes:
        name: of the file.
        frames: uint8 [T, H, W, 3], two per second.
        waveform: float32 [n] at 16 kHz.
        questions: each with its right answer, None without ground truth.
        remarks: notes on the clip for the user.
    """

    name: str
    frames: Any
    waveform: Any
    questions: list[tuple[str, str | None]]
    remarks: Sequence[str] = ()


def sample_clips(questions: Sequence[str] = ()) -> list[DemoClip]:
    """The three shipped clips, read from their files.

    Args:
        questions: about each of them, in the model's vocabulary and without right answers; their
            own if there are none.

    Raises:
        ConfigError: a file is missing, or a question is outside the model's vocabulary.
        UnsupportedError: PyAV is not installed.
    """
    check_questions(questions)
    clips = []
    for sample in SAMPLES:
        if not sample.path.exists():
            raise ConfigError(
                f"The sample clip '{sample.path.name}' is not part of this installation. Install "
                "the wheel or a checkout, or give a clip of your own: --video my.mp4"
            )
        frames, waveform = read_clip(sample.path)
        asked: list[tuple[str, str | None]] = [(text, None) for text in questions]
        asked = asked or [(question.text, question.answer) for question in sample.questions()]
        clips.append(DemoClip(sample.path.name, frames, waveform, asked))
    return clips


def own_clip(path: Path, questions: Sequence[str], *, allow_damaged: bool = False) -> DemoClip:
    """The user's own clip.

    Args:
        path: any file with pictures; its first seconds are used.
        questions: in the model's vocabulary.
        allow_damaged: whether what can be decoded of a damaged file is used.

    Raises:
        ConfigError: an unreadable file, or a question outside the model's vocabulary.
    """
    check_questions(questions)
    frames, waveform, remarks = read_start(path, allow_damaged=allow_damaged)
    return DemoClip(path.name, frames, waveform, [(text, None) for text in questions], remarks)
