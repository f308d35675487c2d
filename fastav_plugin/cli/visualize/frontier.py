"""fastav visualize frontier: what every method retains at its cost, arena by arena."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fastav_plugin.analysis.drawing.page import check_drawing
from fastav_plugin.cli.console import JsonFlag, make_room
from fastav_plugin.cli.progress import progress
from fastav_plugin.cli.tables.layout import print_table
from fastav_plugin.cli.visualize.asked import Output, Title, finish


def run(
    results: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="What `fastav eval --json` printed of --suite papers, real-lm or real-audio.",
        ),
    ],
    output: Output = Path("frontier.png"),
    title: Title = None,
    json: JsonFlag = False,
) -> None:
    """Draw retained accuracy against FLOPs of every setting, and name the best at each budget.

    A budget is a share of dense's tokens in an average layer, to within 1 point: 77, 65, 50 and
    25 %.

    Example: fastav visualize frontier real-lm.json real-audio.json --output frontier.png
    """
    from fastav_plugin.analysis.drawing.frontier import draw_frontier, read_measurements

    check_drawing(output)
    make_room(output)
    arenas = [read_measurements(path) for path in results]
    title = title or "What pruning retains, and what it costs"
    with progress("visualize", 1) as tick:
        draw_frontier(output, arenas, title=title)
        tick("picture")
    if not json:
        rows = [
            [arena.arena, f"{100 * budget:.0f} %", best.name, *_figures(asdict(best))]
            for arena in arenas
            for budget, best in arena.best().items()
        ]
        names = ["arena", "tokens", "best setting", "retained", "random", "FLOPs"]
        print_table(names, rows, left=(0, 2))
    best = {
        arena.arena: {f"{budget:.2f}": asdict(found) for budget, found in arena.best().items()}
        for arena in arenas
    }
    drawn = {arena.arena: [asdict(each) for each in arena.settings] for arena in arenas}
    finish(output, json, {"title": title, "best": best, "settings": drawn})


def _figures(best: dict[str, Any]) -> list[str]:
    mean, low, high = (100 * value for value in best["retained"])
    random = "" if best["random"] is None else f"{100 * best['random']:.0f} %"
    return [f"{mean:.1f} % ({low:.0f} to {high:.0f})", random, f"{100 * best['flops']:.0f} %"]
