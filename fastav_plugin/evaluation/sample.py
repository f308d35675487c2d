"""One question about files, and rows of `{"video", "image", "audio", "question"}`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.fields import Fault, Row, parse_rows, read_table

MEDIA = ("video", "image", "audio")
#: Endings tried where a file names its media without one.
ENDINGS = {
    "video": (".mp4", ".webm", ".mkv", ".avi", ".mov"),
    "image": (".jpg", ".jpeg", ".png"),
    "audio": (".wav", ".flac", ".mp3", ".m4a"),
}


@dataclass(frozen=True)
class Sample:
    """What a model is asked.

    Attributes:
        question: the whole text of the prompt, without its media.
        video: a file with pictures, and with sound if it has any.
        image: a picture.
        audio: a sound, or a video of which only the sound is wanted; goes before the video's own.
        sound: whether the video's own sound is used.
    """

    question: str
    video: Path | None = None
    image: Path | None = None
    audio: Path | None = None
    sound: bool = True

    @property
    def files(self) -> tuple[Path | None, Path | None, Path | None]:
        """Video, picture and sound."""
        return self.video, self.image, self.audio


def read_samples(path: Path, media: Sequence[Path] = ()) -> tuple[list[Sample], list[Fault]]:
    """Read questions about media, in the file's order.

    Args:
        path: a JSON list or JSON lines of objects with `question` and at least one of `video`,
            `image` and `audio`; other fields are left alone.
        media: folders that relative names are looked for in; without any, the file's own.

    Returns:
        The samples, and the rows that cannot be used, with their places.

    Raises:
        ConfigError: the file as a whole cannot be read.
    """
    table = read_table(path)
    folders = list(media) or [path.parent]
    samples, faults = parse_rows(table.rows, lambda row: parse_sample(row, folders))
    return samples, [*table.faults, *faults]


def parse_sample(row: Row, folders: Sequence[Path]) -> Sample:
    """The question and the files that one row names.

    Raises:
        ConfigError: no question, no media, or a file that is not there.
    """
    media = named_media(row, lambda name, kind: find_media(folders, name, kind))
    video, image, audio = (media.get(kind) for kind in MEDIA)
    return Sample(row.text("question").strip(), video, image, audio)


def named_media(row: Row, find: Callable[[str, str], Path]) -> dict[str, Path]:
    """The files that a row names under `video`, `image` and `audio`.

    Raises:
        ConfigError: none, or one that `find` does not find by its name and kind.
    """
    found = {k: find(row.text(k), k) for k in MEDIA if row.values.get(k) is not None}
    if not found:
        raise ConfigError(f"There is none of {', '.join(f'`{kind}`' for kind in MEDIA)}.")
    return found


def find_media(folders: Sequence[Path], name: str, kind: str) -> Path:
    """A media file by its name, with an ending or without.

    Args:
        folders: looked through in order; an absolute name needs none.
        name: of the file, below one of the folders.
        kind: "video", "image" or "audio".

    Raises:
        ConfigError: it is in none of them.
    """
    for folder in folders:
        plain = folder / name
        for path in (plain, *(plain.with_name(plain.name + end) for end in ENDINGS[kind])):
            if path.is_file():
                return path
    where = " or ".join(f"'{folder}'" for folder in folders)
    raise ConfigError(f"The {kind} file '{name}' is not in {where}.")
