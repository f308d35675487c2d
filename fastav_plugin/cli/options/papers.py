"""The options of `fastav eval --suite papers` alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.lab.papers import KEYS

PAPERS = "papers"
#: Enough for differences of a few points, and done in minutes.
PAPERS_QUESTIONS = 300


@dataclass(frozen=True)
class PapersOptions:
    """Options of `--suite papers` alone."""

    table: Annotated[
        list[str] | None,
        typer.Option(help=f"Papers: {', '.join(KEYS)}. May be repeated. Default: all."),
    ] = None
    markdown: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Papers: write the tables as Markdown.")
    ] = None
    select: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            dir_okay=False,
            help="Papers: instead, choose settings for the accuracy targets, on other clips.",
        ),
    ] = None
