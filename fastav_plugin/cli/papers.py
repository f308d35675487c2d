"""fastav eval --suite papers: the tables of the papers on the embedded model."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fastav_plugin import __version__
from fastav_plugin.cli.console import make_room, note, print_json, print_table, progress
from fastav_plugin.cli.generate import load
from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.answers_file import AnswerLog, checkpoint_digest
from fastav_plugin.evaluation.bootstrap import LEVEL, RESAMPLES
from fastav_plugin.lab.bench.clock import machine
from fastav_plugin.lab.papers.markdown import columns_of, duration, processor_of, render
from fastav_plugin.lab.papers.run import SELECTION_SEED, answer_suite, make_tables, prepare_suite
from fastav_plugin.lab.papers.tables import KEYS, suite
from fastav_plugin.lab.papers.targets import record_choice, selection
from fastav_plugin.lab.testbed.evaluation_source import CLIPS, items_of

PAPERS = "papers"
#: Enough for differences of a few points, and done in minutes.
QUESTIONS = 300
#: A choice by means of a per cent or two takes more.
SELECTION_QUESTIONS = 600


def check_options(*given: Any) -> None:
    """Raise for options that the suite does not take, if one was given."""
    if any(given):
        raise ConfigError(
            "`--suite papers` has settings and questions of its own: leave out --data, --method, "
            "--config, --combinations and --all. --rule, --drop-ratio and the like change what "
            "its tables start from."
        )


def run(
    folder: Path,
    overrides: Mapping[str, Any],
    *,
    questions: int | None,
    limit: int | None,
    tables: Sequence[str],
    resume: Path | None,
    markdown: Path | None,
    select: Path | None,
    seed: int,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Solve the settings, answer the questions, print the tables.

    Args:
        folder: the model's.
        overrides: fields of FastAVConfig that the tables start from.
        questions: how many, as many of every task; None for `QUESTIONS`, or for
            `SELECTION_QUESTIONS` where settings are chosen.
        limit: only the first so many of them.
        tables: keys of the tables wanted; () for all.
        resume: file of answers.
        markdown: file for the tables as Markdown.
        select: file for settings of the targets, chosen on clips that no table is about; None
            makes the tables.
        seed: of the intervals.
        device: where the model runs.
        dtype: of its weights.
        as_json: print JSON instead of tables.
    """
    for key in tables:
        if key not in KEYS:
            raise ConfigError(f"Unknown table {key!r}. Known: {', '.join(KEYS)}.")
    if select is not None and tables:
        raise ConfigError("--select makes a table of its own: leave out --table.")
    make_room(markdown, select)
    start = time.monotonic()
    first = 0 if select is None else SELECTION_SEED
    count = questions or (QUESTIONS if select is None else SELECTION_QUESTIONS)
    items = [item for _, item in items_of((CLIPS,), count, limit, first)]
    model, processor = load(folder, dtype, device)
    with progress("settings", None) as tick:
        make = suite if select is None else selection
        found = prepare_suite(model, processor, overrides, only=tables, make=make, tick=tick)
    facts = {
        "suite": PAPERS,
        "first_clip": first,
        "draws": "one per question",
        "version": __version__,
        "model": checkpoint_digest(folder),
        "device": device,
        "dtype": dtype,
        "settings": found.facts(),
    }
    with AnswerLog(resume, facts) as file, progress(PAPERS, len(items)) as tick:
        resumed = len(file.records)
        records = answer_suite(model, processor, found, items, file, tick)
    result: dict[str, Any] = {
        **facts,
        "questions": len(records),
        "clips": len({record.question.clip for record in records}),
        "seed": seed,
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "over": "clips"},
        "hardware": machine(device),
        "torch": torch.__version__,
        # The time of a run that found answers says nothing.
        "minutes": None if resumed else (time.monotonic() - start) / 60,
        "tables": make_tables(records, items, found, seed),
    }
    if markdown is not None:
        markdown.write_text(render(result), encoding="utf-8")
        note(f"Written: {markdown}")
    if select is not None:
        select.write_text(json.dumps(record_choice(found.base, result), indent=1) + "\n")
        note(f"Written: {select}")
    if as_json:
        print_json(result)
        return
    for table in result["tables"]:
        columns = columns_of(table["rows"])
        rows = [[make(row) for make in columns.values()] for row in table["rows"]]
        print_table(list(columns), rows, title=f"\n{table['title']}")
    note(
        f"{result['questions']} questions about {result['clips']} clips, seed {seed}, "
        f"{result['hardware']['threads']} threads of {processor_of(result)}, "
        f"{duration(result)}. In %: right answers with 95 % intervals, by what the "
        "question is about, and as dense. 'over random' is the difference from random rows of the "
        "same table, in brackets where its interval holds zero."
    )
