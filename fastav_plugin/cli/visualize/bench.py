"""fastav visualize bench: the picture of measurements that were kept."""

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.analysis.drawing.page import check_drawing
from fastav_plugin.cli.console import JsonFlag, make_room
from fastav_plugin.cli.progress import progress
from fastav_plugin.cli.visualize.asked import Output, finish
from fastav_plugin.errors import ConfigError


def run(
    measured: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="What `fastav bench --output` wrote."),
    ],
    output: Output = Path("bench.png"),
    json: JsonFlag = False,
) -> None:
    """Draw what was measured earlier, as `fastav bench --plot` does.

    Example: fastav visualize bench lengths.json --output lengths.png
    """
    from fastav_plugin.lab.bench.picture import draw_bench

    check_drawing(output)
    make_room(output)
    with progress("visualize", 1) as tick:
        try:
            found = json_format.loads(measured.read_text(encoding="utf-8"))
            draw_bench(output, found)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"'{measured}' is not what `fastav bench --output` wrote.") from error
        tick("picture")
    cases = [case["case"] for case in found["points"][0]["cases"]]
    lengths = [point["prompt"]["tokens"] for point in found["points"]]
    finish(output, json, {"shape": found["shape"], "cases": cases, "prompt_tokens": lengths})
