"""One question about files: read from rows of a data file, made into inputs of generate()."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.fields import Fault, Row, parse_rows, read_table
from fastav_plugin.media.files import reading_for
from fastav_plugin.media.inputs import Media, prepare_files, prepare_prompt, read_media

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
        place: where in its data file it stands, as in `Fault`.
    """

    question: str
    video: Path | None = None
    image: Path | None = None
    audio: Path | None = None
    sound: bool = True
    place: str = field(default="", compare=False)

    @property
    def files(self) -> tuple[Path | None, Path | None, Path | None]:
        """Video, picture and sound."""
        return self.video, self.image, self.audio


def read_samples(path: Path, media: Sequence[Path] = ()) -> tuple[list[Sample], list[Fault]]:
    """Read questions about media in the file's order, and what is wrong with its other rows.

    Args:
        path: a JSON list or JSON lines of objects with `question` and at least one of `video`,
            `image` and `audio`; other fields are left alone.
        media: folders that relative names are looked for in; without any, the file's own.

    Raises:
        ConfigError: the file as a whole cannot be read.
    """
    table = read_table(path)
    find = partial(find_media, list(media) or [path.parent])

    def parse(row: Row) -> Sample:
        files: dict[str, Any] = named_media(row, find)
        return Sample(row.text("question").strip(), **files, place=row.place)

    samples, faults = parse_rows(table.rows, parse)
    return samples, [*table.faults, *faults]


def named_media(row: Row, find: Callable[[str, str], Path]) -> dict[str, Path]:
    """The files that a row names under `video`, `image` and `audio`; ConfigError for none."""
    found = {k: find(row.text(k), k) for k in MEDIA if row.values.get(k) is not None}
    if not found:
        raise ConfigError(f"There is none of {', '.join(f'`{kind}`' for kind in MEDIA)}.")
    return found


def find_media(folders: Sequence[Path], name: str, kind: str) -> Path:
    """A media file by its name, with an ending or without, in the first folder that has it."""
    for folder in folders:
        plain = folder / name
        for path in (plain, *(plain.with_name(plain.name + end) for end in ENDINGS[kind])):
            if path.is_file():
                return path
    if any((folder / name).is_dir() for folder in folders):
        raise ConfigError(f"'{name}' is a folder, and no {kind} file.")
    where = " or ".join(f"'{folder}'" for folder in folders)
    raise ConfigError(f"The {kind} file '{name}' is not in {where}.")


@dataclass
class SampleInputs:
    """Makes inputs; consecutive questions about the same files read them once.

    Attributes:
        processor: a checkpoint's.
        own: whether it is one of this package's processors, which read files themselves.
        fps: frames per second of a video; this package's processors choose their own.
        frames: at most so many frames, or exactly so many for this package's processors; None
            for all, or the checkpoint's number.
        sound: "separate", "interleaved" or "none": a video's own sound.
        allow_damaged: whether what can be decoded of a damaged file is used.
        data: name of the data file, for what is remarked of the media.
    """

    processor: Any
    own: bool = False
    fps: float = 2.0
    frames: int | None = None
    sound: str = "separate"
    allow_damaged: bool = False
    data: str = ""
    _read: tuple[Any, Media | str] | None = field(default=None, init=False)

    def __call__(self, sample: Sample) -> dict[str, Any]:
        """Inputs of generate(), batch size 1, on the CPU.

        Raises:
            ConfigError: media that cannot be read, or that the processor refuses; names a file.
        """
        try:
            with reading_for(", ".join(filter(None, [self.data, sample.place]))):
                return self._inputs(sample)
        except ConfigError as error:
            names = [path.name for path in sample.files if path is not None]
            if any(name in str(error) for name in names):
                raise
            about = ", ".join(f"'{name}'" for name in names)
            raise ConfigError(f"{about}: {error}") from error

    def _inputs(self, sample: Sample) -> dict[str, Any]:
        files: dict[str, Any] = {
            "images": [] if sample.image is None else [sample.image],
            "video": sample.video,
            "audio": sample.audio,
            "sound": self.sound if sample.sound else "none",
            "allow_damaged": self.allow_damaged,
        }
        if self.own:
            return prepare_files(self.processor, sample.question, **files, frames=self.frames)
        return prepare_prompt(self.processor, self._media(files), sample.question)

    def _media(self, files: dict[str, Any]) -> Media:
        """What the files hold; they are read, or fail to be, once for consecutive questions."""
        if self._read is None or self._read[0] != files:
            found: Media | str
            try:
                options: dict[str, Any] = {"fps": self.fps, "max_frames": self.frames}
                found = read_media(**files, **options, processor=self.processor)
            except ConfigError as error:
                found = str(error)
            self._read = files, found
        if isinstance(self._read[1], str):
            raise ConfigError(self._read[1])
        return self._read[1]


def move_inputs(inputs: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Tensors on the model's device, floating-point ones in its dtype; the rest as it is."""
    from torch import Tensor

    def move(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)

    return {name: move(value) for name, value in inputs.items()}
