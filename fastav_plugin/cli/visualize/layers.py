"""fastav visualize layers: how many tokens of each modality every layer sees."""

from pathlib import Path

from fastav_plugin.analysis.drawing.page import check_drawing
from fastav_plugin.cli.console import JsonFlag, make_room
from fastav_plugin.cli.options.checkpoint import find_model
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import Reading
from fastav_plugin.cli.options.pruning import DEFAULT_METHODS, ConfigFile, Methods, Ratios
from fastav_plugin.cli.progress import load_libraries, progress
from fastav_plugin.cli.visualize.asked import Asked, Output, Title


@grouped
def run(
    *,
    output: Output = Path("layers.png"),
    method: Methods = None,
    config: ConfigFile = None,
    ratios: Ratios,
    asked: Asked,
    reading: Reading,
    title: Title = None,
    json: JsonFlag = False,
) -> None:
    """Draw how many tokens of each modality every layer sees, dense and under each method.

    Example: fastav visualize layers --method fastav --method fastav+divprune -o layers.svg
    """
    from fastav_plugin.analysis.drawing.layers import draw_layers

    check_drawing(output)
    make_room(output)
    load_libraries()
    folder = find_model(asked.model)
    settings = ratios.of(folder, config)
    configs = settings.configs(folder, method, DEFAULT_METHODS)
    with progress("visualize", 2 + 2 * (1 + len(configs))) as tick:
        scene = asked.load(reading)
        tick("model loaded")
        outcomes = scene.compare(configs, tick)
        draw_layers(output, outcomes, title=title or asked.question)
        tick("picture")
    settings.say(method)
    asked.finish(output, json, {"outcomes": [outcome.to_dict() for outcome in outcomes]})
