"""The options that say how media files are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fastav_plugin.cli.options.groups import check_choice
from fastav_plugin.media.inputs import SOUND
from fastav_plugin.media.video import FRAMES_PER_SECOND

MediaFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False)]


@dataclass(frozen=True)
class Reading:
    """What is taken of a video.

    Raises:
        ConfigError: an unknown way to use its sound.
    """

    sound: Annotated[
        str,
        typer.Option(
            help="The video's own sound: separate, interleaved or none. The models of this "
            "package lay it out as they were trained."
        ),
    ] = "separate"
    fps: Annotated[
        float,
        typer.Option(
            min=0.01, help="Video frames per second; the models of this package choose themselves."
        ),
    ] = float(FRAMES_PER_SECOND)
    frames: Annotated[
        int | None,
        typer.Option(min=2, help="At most this many frames, or exactly for VideoLLaMA2."),
    ] = None

    def __post_init__(self) -> None:
        check_choice("sound", self.sound, SOUND)

    def to_dict(self) -> dict[str, Any]:
        """Keywords of `SampleInputs`."""
        return {"fps": self.fps, "frames": self.frames, "sound": self.sound}
