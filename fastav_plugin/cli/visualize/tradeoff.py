"""fastav visualize tradeoff: right answers against FLOPs, from an evaluation."""

from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.analysis.drawing.page import check_drawing
from fastav_plugin.cli.console import JsonFlag, make_room
from fastav_plugin.cli.progress import progress
from fastav_plugin.cli.visualize.asked import Output, Title, finish
from fastav_plugin.errors import ConfigError

#: A star beside lines that do not go through it.
STARRED = "fastav+divprune"


def run(
    answers: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="What `fastav eval --json` printed.")
    ],
    output: Output = Path("tradeoff.png"),
    table: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Which table or set of questions of the file: 1, 2 ... May be repeated, for one "
            f"line through the settings of each and a star for {STARRED}. Default: the one whose "
            "costs differ most.",
        ),
    ] = None,
    title: Title = None,
    json: JsonFlag = False,
) -> None:
    """Draw accuracy against FLOPs from an evaluation's JSON.

    Example: fastav visualize tradeoff papers.json --table 7 --table 8 --output tradeoff.png
    """
    from fastav_plugin.analysis.drawing.tradeoff import (
        cost_range,
        draw_curves,
        draw_tradeoff,
        read_extent,
        read_points,
    )

    check_drawing(output)
    make_room(output)
    found = list(read_points(answers).items())
    widest = max(range(len(found)), key=lambda index: cost_range(found[index][1]))
    wanted = table or [widest + 1]
    if max(wanted) > len(found):
        names = "; ".join(f"{number}: {name}" for number, (name, _) in enumerate(found, 1))
        raise ConfigError(f"'{answers}' holds {names}; got `--table` {max(wanted)}.")
    chosen = dict(found[number - 1] for number in wanted)
    title = title or "Right answers against prefill FLOPs"
    asked = read_extent(answers)
    starred = [point for _, points in found for point in points if point.name == STARRED][:1]
    with progress("visualize", 1) as tick:
        if len(chosen) == 1:
            ((name, points),) = chosen.items()
            about = [asked, name, "lines are 95 % intervals."]
            draw_tradeoff(output, points, title=title, about="; ".join(filter(None, about)))
        else:
            about = [asked, "a line through the settings of each table", "95 % intervals."]
            text = "; ".join(filter(None, about))
            draw_curves(output, chosen, title=title, about=text, marked=starred)
        tick("picture")
    drawn = {name: [vars(point) for point in points] for name, points in chosen.items()}
    marked = [vars(point) for point in starred if len(chosen) > 1]
    finish(output, json, {"title": title, "tables": drawn, "marked": marked})
