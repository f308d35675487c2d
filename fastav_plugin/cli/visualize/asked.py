"""What the commands of `fastav visualize` share: the prompt that is drawn, and what they print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastav_plugin.cli.console import note, print_json
from fastav_plugin.cli.options.checkpoint import Machine, ModelFolder, Threads, find_model
from fastav_plugin.cli.options.media import Reading, existing_file
from fastav_plugin.errors import UnsupportedError

if TYPE_CHECKING:
    from fastav_plugin.cli.scene import Scene

Output = Annotated[
    Path, typer.Option("--output", "-o", dir_okay=False, help="Picture to write: .png or .svg.")
]
Title = Annotated[str | None, typer.Option(help="First line of the picture.")]


@dataclass(frozen=True)
class Asked:
    """The media that are drawn, and what a model is asked about them."""

    model: ModelFolder = None
    video: Annotated[
        Path | None, existing_file("A clip. Without any file: one that is shipped.")
    ] = None
    audio: Annotated[Path | None, existing_file("A sound; goes before the sound of --video.")] = (
        None
    )
    image: Annotated[list[Path] | None, existing_file("A picture. May be repeated.")] = None
    question: Annotated[str, typer.Option(help="What to ask about the media.")] = (
        "When is the hum heard?"
    )
    threads: Threads = 1

    @property
    def model_name(self) -> str:
        """How pictures call the model."""
        return "the bundled model" if self.model is None else self.model

    def load(self, reading: Reading) -> Scene:
        """The model, and its inputs for the question."""
        from fastav_plugin.cli.scene import Scene
        from fastav_plugin.lab.testbed.samples import SAMPLES

        none = self.video is None and self.audio is None and not self.image
        try:
            return Scene.load(
                find_model(self.model),
                self.question,
                images=self.image or [],
                video=SAMPLES[0].path if none else self.video,
                audio=self.audio,
                reading=reading,
                machine=Machine(threads=self.threads),
            )
        except UnsupportedError as error:
            # The video is ours: whoever gave none is told what to give.
            _, refused, taken = str(error).partition("takes no video, only ")
            options = {"images": "`--image`", "audio": "`--audio`"}
            possible = [option for kind, option in options.items() if kind in taken]
            if not none or not refused or not possible:
                raise
            raise UnsupportedError(f"{error} Give {' or '.join(possible)}.") from error

    def finish(self, output: Path, as_json: bool, data: dict[str, Any]) -> None:
        """Say what was written, with `--json` also what it shows."""
        asked = {"model": self.model_name, "question": self.question}
        finish(output, as_json, asked | data)


def finish(output: Path, as_json: bool, data: dict[str, Any]) -> None:
    """Say that a file was written, with `--json` also what it shows."""
    note(f"Written: {output}")
    if as_json:
        print_json({"files": [str(output)], **data})
