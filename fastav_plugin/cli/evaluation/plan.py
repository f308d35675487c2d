"""What `fastav eval` asks: the testbed's questions, or those of a dataset's file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastav_plugin.cli.options.media import TESTBED, DatasetOptions, Reading
from fastav_plugin.cli.tables.evaluation import print_summary, print_task
from fastav_plugin.evaluation.dataset import read_dataset
from fastav_plugin.evaluation.formats.fields import Fault
from fastav_plugin.evaluation.records import QuestionSource, Record
from fastav_plugin.evaluation.sample import SampleInputs
from fastav_plugin.evaluation.summary import summarise, summarise_tasks
from fastav_plugin.lab.testbed.evaluation_source import items_of, make_source


@dataclass(frozen=True)
class Plan:
    """What is asked, and how the answers are summed up.

    Attributes:
        facts: what the answers depend on besides model and settings.
        total: number of questions.
        source: makes the questions, given the processor.
        measure: parts of the result as plain JSON data.
        show: prints one part.
        faults: records of the file that are left out.
        places: where each question is in its file, by its key.
    """

    facts: dict[str, Any]
    total: int
    source: Callable[[Any], QuestionSource]
    measure: Callable[[Sequence[Record]], list[dict[str, Any]]]
    show: Callable[[dict[str, Any]], None]
    faults: Sequence[Fault] = ()
    places: Mapping[str, str] = field(default_factory=dict)


def plan_testbed(held_out: Sequence[str], count: int, limit: int | None, seed: int) -> Plan:
    """The testbed's held-out questions."""
    items = items_of(held_out, count, limit)

    def measure(records: Sequence[Record]) -> list[dict[str, Any]]:
        parts = []
        for name in held_out:
            own = [record for record in records if record.question.part == name]
            clips = len({record.question.clip for record in own})
            rows = summarise(own, seed=seed)
            parts.append({"held_out": name, "questions": len(own), "clips": clips, "rows": rows})
        return parts

    return Plan(
        {"suite": TESTBED},
        len(items),
        lambda processor: make_source(processor, items),
        measure,
        print_summary,
    )


def plan_dataset(
    data: Path, options: DatasetOptions, reading: Reading, limit: int | None, own: bool, seed: int
) -> Plan:
    """The questions of a dataset's file; `own`: for a model of this package."""
    dataset = read_dataset(data, **options.to_dict(), limit=limit)
    return Plan(
        {"suite": dataset.form.name, **dataset.facts(), **reading.facts()},
        len(dataset.questions),
        lambda processor: dataset.source(
            SampleInputs(processor, own=own, **reading.to_dict(), data=data.name)
        ),
        lambda records: summarise_tasks(records, seed=seed),
        print_task,
        dataset.faults,
        dataset.places,
    )
