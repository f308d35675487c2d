"""The options that say how media files, and those of a dataset, are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fastav_plugin.cli.options.groups import check_choice
from fastav_plugin.evaluation.formats.registry import FORMATS
from fastav_plugin.evaluation.matching import RULES
from fastav_plugin.media.inputs import SOUND
from fastav_plugin.media.video import FRAMES_PER_SECOND


def existing_file(help: str) -> Any:
    """An option for a file that is read."""
    return typer.Option(exists=True, dir_okay=False, help=help)


AllowDamaged = Annotated[
    bool,
    typer.Option(
        "--allow-damaged",
        help="Use what can be decoded of a damaged media file, which is an error otherwise.",
    ),
]
MediaFolders = Annotated[
    list[Path] | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="Folder of the media of --data. May be repeated. Default: the folder of --data.",
    ),
]


@dataclass(frozen=True)
class Reading:
    """What is taken of media files; a ConfigError for an unknown way to use a video's sound."""

    sound: Annotated[
        str,
        typer.Option(
            help="The sound of a video: 'separate' tokens after those of its frames, "
            "'interleaved' with them second by second (for models trained so), or 'none' to "
            "leave it out. Models of this package have a layout of their own; 'none' is for them "
            "too."
        ),
    ] = "separate"
    fps: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=240,
            help="Video frames per second; the models of this package choose themselves.",
        ),
    ] = float(FRAMES_PER_SECOND)
    frames: Annotated[
        int | None,
        typer.Option(min=2, help="At most this many frames, or exactly for VideoLLaMA2."),
    ] = None
    allow_damaged: AllowDamaged = False

    def __post_init__(self) -> None:
        check_choice("sound", self.sound, SOUND)

    def to_dict(self) -> dict[str, Any]:
        """Keywords of `SampleInputs`."""
        return dict(vars(self))

    def facts(self) -> dict[str, Any]:
        """What measurements depend on; `allow_damaged` is among it only where it is given."""
        return {k: v for k, v in vars(self).items() if k != "allow_damaged" or v}


#: Asked where no dataset is given.
TESTBED = "testbed"


@dataclass(frozen=True)
class DatasetOptions:
    """How questions are made of a dataset's file; None leaves a choice to its format."""

    form: Annotated[
        str | None,
        typer.Option(
            "--format", help=f"{', '.join(FORMATS)}. Default: detected from the first record."
        ),
    ] = None
    media: MediaFolders = None
    answers: Annotated[Path | None, existing_file("Answers of --data, by question_id.")] = None
    prompt_template: Annotated[
        str | None,
        typer.Option(
            help="Prompt instead of the format's: '{question}', '{question}\\n{options}' ..."
        ),
    ] = None
    match: Annotated[
        str | None, typer.Option(help=f"Matching rule instead of the format's: {', '.join(RULES)}.")
    ] = None
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of an answer. Default: the format's.")
    ] = None

    def to_dict(self) -> dict[str, Any]:
        """Keywords of `read_dataset`."""
        return {
            "name": self.form,
            "media": self.media or (),
            "answers": self.answers,
            "template": self.prompt_template,
            "rule": self.match,
            "max_new_tokens": self.max_new_tokens,
        }
