"""fastav visualize: pictures of attention, of what is dropped, and of what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastav_plugin.analysis.drawing.page import check_drawing
from fastav_plugin.cli.console import note
from fastav_plugin.cli.options.checkpoint import ModelFolder, Threads, find_model
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import AllowDamaged, existing_file
from fastav_plugin.cli.options.pruning import DEFAULT_METHODS, ConfigFile, Methods, Ratios
from fastav_plugin.cli.progress import progress
from fastav_plugin.errors import ConfigError

if TYPE_CHECKING:
    from fastav_plugin.cli.scene import Scene

app = typer.Typer(
    no_args_is_help=True,
    help="Draw what happens inside a prefill, or what an evaluation found, as PNG or SVG.",
)
QUESTION = "When is the hum heard?"
Output = Annotated[
    Path, typer.Option("--output", "-o", dir_okay=False, help="Picture to write: .png or .svg.")
]
Title = Annotated[str | None, typer.Option(help="First line of the picture.")]


@dataclass(frozen=True)
class Asked:
    """The clip that is drawn, and what a model is asked about it."""

    model: ModelFolder = None
    video: Annotated[Path | None, existing_file("A clip. Default: one that is shipped.")] = None
    question: Annotated[str, typer.Option(help="What to ask about the clip.")] = QUESTION
    allow_damaged: AllowDamaged = False
    threads: Threads = 1

    def load(self) -> Scene:
        """The model, and its inputs for the question."""
        from fastav_plugin.cli.scene import Scene

        return Scene.load(
            find_model(self.model),
            self.video,
            self.question,
            allow_damaged=self.allow_damaged,
            threads=self.threads,
        )


@app.command("attention")
@grouped
def attention(
    *,
    output: Output = Path("attention.png"),
    layers: Annotated[
        str | None,
        typer.Option(help="Layers to show, such as 0,3,7. Default: four, first to last."),
    ] = None,
    alpha: Annotated[
        float, typer.Option(help="Weight of attention against the residual path in the rollout.")
    ] = 0.5,
    asked: Asked,
    title: Title = None,
) -> None:
    """Draw the last query and the column sums of attention and of its rollout, layer by layer.

    The rollout is exact and needs no n x n matrix; the prefill is dense.

    Example: fastav visualize attention --layers 0,3,5,7 --output attention.png
    """
    from fastav_plugin.analysis.attention_profile import profile_attention
    from fastav_plugin.analysis.drawing.attention import draw_attention

    check_drawing(output)
    wanted = None if layers is None else _integers(layers)
    with progress("visualize", 2) as tick:
        scene = asked.load()
        tick("model loaded")
        profile = profile_attention(scene.model, scene.inputs, wanted, alpha=alpha)
        tick("attention")
    draw_attention(output, profile, title=title or asked.question)
    note(f"Written: {output}")


@app.command("layers")
@grouped
def layers(
    *,
    output: Output = Path("layers.png"),
    method: Methods = None,
    config: ConfigFile = None,
    ratios: Ratios,
    asked: Asked,
    title: Title = None,
) -> None:
    """Draw how many tokens of each modality every layer sees, dense and under each method.

    Example: fastav visualize layers --method fastav --method fastav+divprune -o layers.svg
    """
    from fastav_plugin.analysis.drawing.layers import draw_layers

    check_drawing(output)
    folder = find_model(asked.model)
    settings = ratios.of(folder, config)
    configs = settings.configs(folder, method, DEFAULT_METHODS)
    with progress("visualize", 1 + 2 * (1 + len(configs))) as tick:
        scene = asked.load()
        tick("model loaded")
        outcomes = scene.compare(configs, tick)
    settings.say(method)
    draw_layers(output, outcomes, title=title or asked.question)
    note(f"Written: {output}")


@app.command("pruning")
@grouped
def pruning(
    *,
    output: Output = Path("pruning.png"),
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="A method, or several joined by '+'. Default: that of the settings file, else "
            "fastav+divprune.",
        ),
    ] = None,
    config: ConfigFile = None,
    ratios: Ratios,
    asked: Asked,
    title: Title = None,
) -> None:
    """Draw the frames and the waveform of a clip, and in grey what each stage drops.

    Example: fastav visualize pruning --video my.mp4 --question "Is the hum heard?" -o clip.png
    """
    import numpy as np

    from fastav_plugin.analysis.drawing.clip import draw_pruning
    from fastav_plugin.analysis.media_tokens import video_grid
    from fastav_plugin.lab.demo.picture import stages_of, subtitle

    check_drawing(output)
    folder = find_model(asked.model)
    settings = ratios.of(folder, config)
    configs = settings.configs(folder, [method] if method else None, ("fastav+divprune",))
    if not configs:
        raise ConfigError("Dense drops nothing that could be drawn. Give another `--method`.")
    with progress("visualize", 5) as tick:
        scene = asked.load()
        grid = video_grid(scene.processor, scene.inputs)
        tick("model loaded")
        dense, pruned = scene.compare(configs, tick)
    settings.say(method)
    frames = scene.media.frames
    assert frames is not None and pruned.report is not None
    waveform = np.zeros(1, np.float32) if scene.media.waveform is None else scene.media.waveform
    draw_pruning(
        output,
        frames[:: len(frames) // grid[0]],
        waveform,
        stages_of(pruned, configs[0], grid),
        seconds=len(frames) / scene.media.fps,
        title=title or f"{asked.question}  Dense: {dense.answer}.  Pruned: {pruned.answer}.",
        subtitle=subtitle(configs[0].method, pruned.flops_ratio),
    )
    note(f"Written: {output}")


@app.command("tradeoff")
def tradeoff(
    answers: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="What `fastav eval --json` printed.")
    ],
    output: Output = Path("tradeoff.png"),
    table: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Which table or set of questions of the file: 1, 2 ... May be repeated, for one "
            "line through the settings of each. Default: the one whose costs differ most.",
        ),
    ] = None,
    title: Title = None,
) -> None:
    """Draw accuracy against FLOPs from an evaluation's JSON.

    Example: fastav visualize tradeoff papers.json --table 7 --table 8 --output tradeoff.png
    """
    from fastav_plugin.analysis.drawing.tradeoff import (
        cost_range,
        draw_curves,
        draw_tradeoff,
        read_points,
    )

    check_drawing(output)
    found = list(read_points(answers).items())
    widest = max(range(len(found)), key=lambda index: cost_range(found[index][1]))
    wanted = table or [widest + 1]
    if max(wanted) > len(found):
        names = "; ".join(f"{number}: {name}" for number, (name, _) in enumerate(found, 1))
        raise ConfigError(f"'{answers}' holds {names}; got `--table` {max(wanted)}.")
    chosen = [found[number - 1] for number in wanted]
    title = title or "Accuracy against FLOPs"
    if len(chosen) == 1:
        draw_tradeoff(output, chosen[0][1], title=title, about=chosen[0][0])
    else:
        about = "One line per table, through its settings; bands are the intervals."
        draw_curves(output, dict(chosen), title=title, about=about)
    note(f"Written: {output}")


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"`--layers` takes numbers such as 0,3,7, got {text!r}.") from error
