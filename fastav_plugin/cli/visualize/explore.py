"""fastav visualize explore: a page that steps through the layers of a prompt."""

from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.cli.console import JsonFlag, make_room
from fastav_plugin.cli.options.checkpoint import find_model
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import Reading
from fastav_plugin.cli.options.pruning import DEFAULT_METHODS, ConfigFile, Methods, Ratios
from fastav_plugin.cli.progress import load_libraries, progress
from fastav_plugin.cli.visualize.asked import Asked, Title


@grouped
def run(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, help="Page to write: .html.")
    ] = Path("explore.html"),
    method: Methods = None,
    config: ConfigFile = None,
    ratios: Ratios,
    asked: Asked,
    reading: Reading,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 64,
    title: Title = None,
    json: JsonFlag = False,
) -> None:
    """Write a page that steps through the layers: what each method drops, and what a layer costs.

    It shows the frames and the sound with their tokens, and the dense answer beside each pruned
    one. It is one file that loads nothing else: open it in a browser, or send it to someone.

    Example: fastav visualize explore --video my.mp4 --question "Is the hum heard?" -o clip.html
    """
    from fastav_plugin.analysis.explore.page import check_page, write_page

    check_page(output)
    make_room(output)
    load_libraries()
    folder = find_model(asked.model)
    settings = ratios.of(folder, config)
    configs = settings.configs(folder, method, DEFAULT_METHODS)
    with progress("visualize", 2 + 2 * (1 + len(configs))) as tick:
        scene = asked.load(reading)
        tick("model loaded")
        outcomes = scene.compare(configs, tick, max_new_tokens=max_new_tokens)
        shown = write_page(
            output,
            outcomes,
            question=asked.question,
            model=asked.model_name,
            processor=scene.processor,
            inputs=scene.inputs,
            media=scene.media,
            title=title,
        )
        tick("page")
    settings.say(method)
    pictures = len(shown["pictures"])
    data = {"pictures": pictures, "outcomes": [outcome.to_dict() for outcome in outcomes]}
    asked.finish(output, json, data)
