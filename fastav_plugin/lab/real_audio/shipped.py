"""The test clips that are shipped: voices, and some of the names, that no training clip has."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastav_plugin.lab.real_audio.frames import SAMPLE_RATE

#: Folder with one Ogg Opus file for each clip, and the list of them.
CLIPS = Path(__file__).parent / "clips"
LIST = "clips.jsonl"


@dataclass(frozen=True)
class Asked:
    """A question about a clip and its answer.

    Args:
        kind: what the answer is, such as "name"; "first", "last", "count", "claim" (answered by
            yes or no) and "absent" (not mentioned) are about more than one word.
        text: the question.
        answer: the right one.
        fact: index of the sentence that holds the answer; None where no single one does.
    """

    kind: str
    text: str
    answer: str
    fact: int | None


@dataclass(frozen=True)
class ShippedClip:
    """A spoken clip.

    Args:
        path: of the sound.
        name: of the clip.
        sentences: what is said.
        spans: start and end of each sentence in seconds.
        questions: about it.
        seconds: its length.
        new_names: whether no training clip has its names.
    """

    path: Path
    name: str
    sentences: tuple[str, ...]
    spans: tuple[tuple[float, float], ...]
    questions: tuple[Asked, ...]
    seconds: float
    new_names: bool

    def read(self) -> np.ndarray:
        """Its sound, float32 [samples] at 16 kHz.

        Raises:
            ConfigError: the file cannot be read, or PyAV is missing.
        """
        from fastav_plugin.media.sound import fit_length, read_sound

        return fit_length(read_sound(self.path)[0], round(self.seconds * SAMPLE_RATE))


def read_clips(folder: Path = CLIPS) -> list[ShippedClip]:
    """All clips of a folder in the order of its list."""
    found = []
    for line in (folder / LIST).read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        found.append(
            ShippedClip(
                path=folder / f"{record['name']}.opus",
                name=record["name"],
                sentences=tuple(record["sentences"]),
                spans=tuple((start, stop) for start, stop in record["spans"]),
                questions=tuple(Asked(**each) for each in record["questions"]),
                seconds=record["seconds"],
                new_names=record["new_names"],
            )
        )
    return found


def digest_of(folder: Path = CLIPS) -> str:
    """Of the list of clips: other questions or other clips have another."""
    return hashlib.sha256((folder / LIST).read_bytes()).hexdigest()[:16]
