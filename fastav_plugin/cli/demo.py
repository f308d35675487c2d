"""fastav demo: a clip made on the spot, dense and pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from fastav_plugin.cli.console import note, print_json, progress
from fastav_plugin.cli.options import JsonFlag, Threads
from fastav_plugin.cli.outcomes import print_outcomes
from fastav_plugin.demo import NOTICE, run_demo, steps


def run(
    output: Annotated[
        Path, typer.Option(help="Folder for clip.mp4, report.json and pruning.png.")
    ] = Path("demo"),
    repeats: Annotated[int, typer.Option(min=1, help="Timed prefills of each method.")] = 5,
    threads: Threads = 1,
    json: JsonFlag = False,
) -> None:
    """Prune a real mp4 with sound inside a small Qwen2.5-Omni thinker of random weights.

    One thread is the quickest for a model this small.

    Example: fastav demo --output demo
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with progress("demo", steps(repeats)) as tick:
        found = run_demo(output, repeats=repeats, tick=tick)
    if json:
        print_json({**found.to_dict(), "output": str(output)})
        return
    print_outcomes(found.outcomes, found.cut, title=f"clip.mp4: {found.question}")
    note(NOTICE)
    note("Written: " + ", ".join(str(path) for path in found.files))
