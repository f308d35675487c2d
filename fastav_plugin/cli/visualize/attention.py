"""fastav visualize attention: what the tokens of a prompt attend to, layer by layer."""

from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.analysis.drawing.page import check_drawing
from fastav_plugin.cli.console import JsonFlag, make_room
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import Reading
from fastav_plugin.cli.progress import load_libraries, progress
from fastav_plugin.cli.visualize.asked import Asked, Output, Title
from fastav_plugin.errors import ConfigError


@grouped
def run(
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
    reading: Reading,
    title: Title = None,
    json: JsonFlag = False,
) -> None:
    """Draw the last query and the column sums of attention and of its rollout, layer by layer.

    The rollout is exact and needs no n x n matrix; the prefill is dense.

    Example: fastav visualize attention --layers 0,3,5,7 --output attention.png
    """
    from fastav_plugin.analysis.attention_profile import profile_attention
    from fastav_plugin.analysis.drawing.attention import draw_attention, modality_shares

    check_drawing(output)
    make_room(output)
    load_libraries()
    wanted = None if layers is None else _integers(layers)
    with progress("visualize", 3) as tick:
        scene = asked.load(reading)
        tick("model loaded")
        profile = profile_attention(scene.model, scene.inputs, wanted, alpha=alpha)
        tick("attention")
        draw_attention(output, profile, title=title or asked.question)
        tick("picture")
    shares = {"layers": profile.layers, "alpha": alpha, "shares": modality_shares(profile)}
    asked.finish(output, json, shares)


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"`--layers` takes numbers such as 0,3,7, got {text!r}.") from error
