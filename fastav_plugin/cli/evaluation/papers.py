"""fastav eval --suite papers: the tables of the papers on the bundled model."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fastav_plugin import __version__
from fastav_plugin.cli.console import interruptible, make_room, note, print_json
from fastav_plugin.cli.options.checkpoint import Machine
from fastav_plugin.cli.options.papers import PAPERS, PAPERS_QUESTIONS, TableOptions
from fastav_plugin.cli.progress import progress
from fastav_plugin.cli.tables.layout import print_table
from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.answers_file import AnswerLog, checkpoint_digest
from fastav_plugin.evaluation.bootstrap import LEVEL, RESAMPLES
from fastav_plugin.lab.bench.clock import machine as hardware
from fastav_plugin.lab.papers import KEYS
from fastav_plugin.lab.papers.markdown import columns_of, duration, processor_of, render
from fastav_plugin.lab.papers.run import SELECTION_SEED, answer_suite, make_tables, prepare_suite
from fastav_plugin.lab.papers.tables import suite
from fastav_plugin.lab.papers.targets import record_choice, selection
from fastav_plugin.lab.testbed.evaluation_source import items_of
from fastav_plugin.lab.testbed.tasks import CLIPS

#: A choice by means of a per cent or two takes more than tables.
SELECTION_QUESTIONS = 600


def run_papers(
    folder: Path,
    keywords: Mapping[str, Any],
    shown: TableOptions,
    select: Path | None,
    machine: Machine,
    *,
    questions: int | None,
    limit: int | None,
    resume: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Solve the settings, answer the questions, print the tables, which start from `keywords`.

    `keywords` are those of `FastAVConfig.for_model`. With `select` settings are chosen for
    the targets instead, on clips of no table.
    """
    tables, markdown = shown.keys(KEYS), shown.markdown
    if select is not None and tables:
        raise ConfigError("--select makes a table of its own: leave out --tables.")
    make_room(markdown, select)
    start = time.monotonic()
    first = 0 if select is None else SELECTION_SEED
    count = questions or (PAPERS_QUESTIONS if select is None else SELECTION_QUESTIONS)
    items = [item for _, item in items_of((CLIPS,), count, limit, first)]
    with progress("loading the model", None):
        model, processor = machine.load(folder)
    with progress("settings", None) as tick:
        make = suite if select is None else selection
        found = prepare_suite(model, processor, keywords, only=tables, make=make, tick=tick)
    facts = {
        "suite": PAPERS,
        "first_clip": first,
        "draws": "one per question",
        "version": __version__,
        "model": checkpoint_digest(folder),
        "device": machine.device,
        "dtype": machine.dtype,
        "settings": found.facts(),
    }
    with (
        AnswerLog(resume, facts) as file,
        interruptible(lambda: file.kept),
        progress(PAPERS, len(items), "questions") as tick,
    ):
        resumed = len(file.records)
        records = answer_suite(model, processor, found, items, file, tick)
    result: dict[str, Any] = {
        **facts,
        "questions": len(records),
        "clips": len({record.question.clip for record in records}),
        "seed": seed,
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "over": "clips"},
        "hardware": hardware(machine.device),
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
        "question is about, and as dense. 'over random' is the difference from the random control "
        "of the same table, in brackets where its interval contains zero."
    )
