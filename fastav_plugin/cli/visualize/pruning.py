"""fastav visualize pruning: frames and waveform of a clip, and what each stage drops of them."""

from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.analysis.drawing.page import check_drawing
from fastav_plugin.cli.console import JsonFlag, make_room
from fastav_plugin.cli.options.checkpoint import find_model
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import Reading
from fastav_plugin.cli.options.pruning import ConfigFile, Ratios
from fastav_plugin.cli.progress import load_libraries, progress
from fastav_plugin.cli.visualize.asked import Asked, Output, Title
from fastav_plugin.errors import ConfigError


@grouped
def run(
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
    reading: Reading,
    title: Title = None,
    json: JsonFlag = False,
) -> None:
    """Draw the frames and the waveform of a clip, and dark what each stage drops.

    Example: fastav visualize pruning --video my.mp4 --question "Is the hum heard?" -o clip.png
    """
    from fastav_plugin.analysis.media_tokens import video_grid
    from fastav_plugin.lab.demo.picture import draw_outcome, stages_of

    check_drawing(output)
    make_room(output)
    load_libraries()
    folder = find_model(asked.model)
    settings = ratios.of(folder, config)
    configs = settings.configs(folder, [method] if method else None, ("fastav+divprune",))
    if not configs:
        raise ConfigError("Dense drops nothing that could be drawn. Give another `--method`.")
    with progress("visualize", 6) as tick:
        scene = asked.load(reading)
        grid = video_grid(scene.processor, scene.inputs)
        tick("model loaded")
        dense, pruned = scene.compare(configs, tick)
        stages = stages_of(pruned, configs[0], grid)
        draw_outcome(
            output,
            pruned,
            stages,
            dense=dense,
            media=scene.media,
            title=title or f"{asked.question}  Dense: {dense.answer}.  Pruned: {pruned.answer}.",
        )
        tick("picture")
    settings.say(method)
    data = {
        "stages": [stage.to_dict() for stage in stages],
        "outcomes": [outcome.to_dict() for outcome in (dense, pruned)],
    }
    asked.finish(output, json, data)
