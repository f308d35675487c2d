"""The user's own clip and questions about it in the vocabulary of the bundled model."""

from collections.abc import Sequence
from pathlib import Path

from fastav_plugin.errors import ConfigError
from fastav_plugin.lab.testbed.words import build_tokenizer, vocabulary
from fastav_plugin.lab.testbed.world import (
    CLIP_SECONDS,
    COLOURS,
    SHAPES,
    SOUNDS,
)
from fastav_plugin.media.clips import read_video
from fastav_plugin.media.files import Source
from fastav_plugin.media.presentation import Frames
from fastav_plugin.media.sound import SAMPLE_RATE, Waveform, fit_length
from fastav_plugin.media.video import FRAMES_PER_SECOND

FORMS = (
    "Is the SHAPE visible?",
    "Is the SOUND heard?",
    "Do sound and picture match?",
    "Which colour is the SHAPE?",
    "Which sound is heard?",
    "When is the SOUND heard?",
)
KNOWN = (
    f"Shapes: {', '.join(SHAPES)}. Colours: {', '.join(COLOURS)}. Sounds: {', '.join(SOUNDS)}. "
    f"Questions: {' '.join(FORMS)}"
)
KNOWLEDGE = (
    f"The model has seen nothing but drawn clips of 2 to {CLIP_SECONDS} s: flat coloured shapes "
    "that drift over a texture, six synthetic sounds over noise.",
    KNOWN,
    "It cannot say that it does not know: of people, speech, music, text, or a shape that is not "
    "there, it answers with one of its words all the same. What the pruning costs and whether it "
    "changes an answer holds for any clip; whether an answer is true, only for clips like its own.",
)


def default_questions() -> list[str]:
    """Which shapes are seen, which sounds are heard, and whether they match."""
    seen = [f"Is the {name} visible?" for name in SHAPES]
    heard = [f"Is the {name} heard?" for name in SOUNDS]
    return [*seen, *heard, "Do sound and picture match?"]


def check_questions(questions: Sequence[str]) -> None:
    """Refuse questions outside the model's vocabulary or of a form it was not trained on.

    Raises:
        ConfigError: an unknown word or form of question; the message names the known ones.
    """
    normalise = build_tokenizer().backend_tokenizer.normalizer.normalize_str
    classes = {**dict.fromkeys(SHAPES, "shape"), **dict.fromkeys(SOUNDS, "sound")}
    forms = {" ".join(normalise(form).split()) for form in FORMS}
    for question in questions:
        words = normalise(question).split()
        for word in words:
            if word not in vocabulary():
                raise ConfigError(f"The model does not know the word {word!r}. {KNOWN}")
        if " ".join(classes.get(word, word) for word in words) not in forms:
            raise ConfigError(f"The model was never asked questions like {question!r}. {KNOWN}")


def read_start(
    path: Path, seconds: float = CLIP_SECONDS, *, allow_damaged: bool = False
) -> tuple[Frames, Waveform, list[str]]:
    """Read the first seconds of any file with pictures.

    Args:
        path: the file.
        seconds: the rest is left out.
        allow_damaged: whether what can be decoded of a damaged file is used.

    Returns:
        frames, uint8 [T, H, W, 3], two per second, T even; the waveform, float32 [n] at 16 kHz,
        as long as the frames; and remarks on what was left out or missing.

    Raises:
        ConfigError: the file cannot be read or has no pictures.
        UnsupportedError: PyAV is not installed.
    """
    fps = float(FRAMES_PER_SECOND)
    # One picture more than is used tells whether the clip goes on.
    video = read_video(Source(path, allow_damaged), fps, seconds=seconds + 1 / fps)
    frames = video.frames[: round(seconds * fps)]
    length = len(frames) / fps
    remarks = []
    if len(video.frames) > len(frames):
        remarks.append(f"Only the first {seconds:.0f} s of {path.name} are used.")
    elif length < seconds:
        remarks.append(f"{path.name} lasts {length:.0f} s; the model knows clips of {seconds:.0f}.")
    if video.waveform is None:
        remarks.append(f"Nothing is heard of {path.name}: the audio input is silent.")
    return frames, fit_length(video.waveform, round(length * SAMPLE_RATE)), remarks
