"""Summaries of the answers, table by table."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastav_plugin.analysis import DENSE
from fastav_plugin.evaluation.bootstrap import bootstrap_mean
from fastav_plugin.evaluation.records import Record
from fastav_plugin.lab.papers.setting import PaperTable, Solved
from fastav_plugin.lab.testbed.needles import EARLY, LATE, SIGHT, SOUND

#: Kinds of questions, one column each.
FACETS = ("sight", "sound", "both", "early", "late")


def facets_of(task: str, needle: str | None) -> frozenset[str]:
    """The facets of a question by its task and the half of the clip that decides its answer."""
    sense = "sight" if task in SIGHT else "sound" if task in SOUND else "both"
    return frozenset({sense, *({needle} if needle in (EARLY, LATE) else ())})


def summarise_tables(
    records: Sequence[Record],
    facets: Mapping[str, frozenset[str]],
    tables: Sequence[PaperTable],
    solved: Mapping[str, Solved],
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Every table as plain JSON data.

    Args:
        records: with an answer of every setting.
        facets: of each question by its key.
        tables: what to compare.
        solved: settings by name.
        seed: of the confidence intervals.

    Returns:
        Per table its key, title, about and rows; a row has the setting's name and hooks, accuracy
        with interval, its share of dense, the mean of each facet, agreement with dense, KL,
        tokens of an average layer, FLOPs, and, where the table has random controls, the paired
        difference of accuracy from their mean.
    """
    summary = _Summary(records, facets, seed)
    return [
        {
            "key": table.key,
            "title": table.title,
            "about": table.about,
            "rows": [
                summary.row(label, name, solved, _controls(table, solved))
                for label, name in [(DENSE, DENSE), *table.rows]
            ],
        }
        for table in tables
    ]


def _controls(table: PaperTable, solved: Mapping[str, Solved]) -> list[str]:
    return [name for _, name in table.rows if solved[name].setting.control]


class _Summary:
    """Answers of all settings; a row is computed once for all tables."""

    def __init__(
        self, records: Sequence[Record], facets: Mapping[str, frozenset[str]], seed: int
    ) -> None:
        self._records = records
        self._facets = [facets[record.question.key] for record in records]
        self._seed = seed
        self._rows: dict[str, dict[str, Any]] = {}

    def row(
        self, label: str, name: str, solved: Mapping[str, Solved], controls: Sequence[str]
    ) -> dict[str, Any]:
        """One setting in one table."""
        if name not in self._rows:
            self._rows[name] = self._measure(name)
        row = {"setting": label, **self._rows[name]}
        if name in solved:
            row |= solved[name].to_dict()
        if controls and name != DENSE and name not in controls:
            row["against_random"] = self._against(name, controls)
        return row

    def _measure(self, name: str) -> dict[str, Any]:
        answers = [record.answers[name] for record in self._records]
        right = self._right(name)
        dense = statistics.fmean(self._right(DENSE))
        same = [
            float(record.answers[name].read == record.answers[DENSE].read)
            for record in self._records
        ]
        return {
            "accuracy": self._mean(right),
            "share_of_dense": statistics.fmean(right) / dense if dense else None,
            "facets": {facet: self._facet(right, facet) for facet in FACETS},
            "agreement": self._mean(same),
            "kl": statistics.fmean(answer.kl for answer in answers),
            "tokens": statistics.fmean(statistics.fmean(answer.tokens) for answer in answers),
            "flops_ratio": statistics.fmean(answer.flops_ratio for answer in answers),
        }

    def _facet(self, values: Sequence[float], facet: str) -> dict[str, Any] | None:
        own = [v for v, facets in zip(values, self._facets, strict=True) if facet in facets]
        return {"questions": len(own), "mean": statistics.fmean(own)} if own else None

    def _against(self, name: str, controls: Sequence[str]) -> dict[str, Any]:
        rows = zip(*(self._right(control) for control in controls), strict=True)
        pairs = zip(self._right(name), rows, strict=True)
        return self._mean([value - statistics.fmean(others) for value, others in pairs])

    def _right(self, name: str) -> list[float]:
        return [float(record.answers[name].score or 0) for record in self._records]

    def _mean(self, values: Sequence[float]) -> dict[str, Any]:
        clips = [record.question.clip for record in self._records]
        return bootstrap_mean(values, clips, seed=self._seed)._asdict()


#: A cell of a row.
Cell = Callable[[dict[str, Any]], str]


def cells() -> dict[str, Cell]:
    """Columns of a printed table by heading; all but the intervals are percentages."""

    def facet(name: str) -> Cell:
        return lambda row: _percent(row["facets"][name] and row["facets"][name]["mean"])

    return {
        "setting": lambda row: str(row["setting"]),
        "right": lambda row: _interval(row["accuracy"]),
        **{name: facet(name) for name in FACETS},
        "as dense": lambda row: _percent(row["agreement"]["mean"]),
        "KL": lambda row: f"{row['kl']:.3f}",
        "tokens": lambda row: f"{row['tokens']:.0f}",
        "FLOPs": lambda row: f"{100 * row['flops_ratio']:.1f} %",
        "over random": lambda row: _difference(row.get("against_random")),
    }


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _interval(found: Mapping[str, float]) -> str:
    mean, low, high = (100 * found[name] for name in ("mean", "low", "high"))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _difference(found: Mapping[str, float] | None) -> str:
    """With a sign; in brackets if the interval contains zero."""
    if found is None:
        return ""
    text = f"{round(100 * found['mean'], 1) + 0.0:+.1f}"
    return text if found["low"] > 0 or found["high"] < 0 else f"({text})"
