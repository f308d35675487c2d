"""The tables of a run: retained accuracy with intervals, and the distance to the control."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastav_plugin.analysis import DENSE
from fastav_plugin.evaluation.bootstrap import bootstrap_mean
from fastav_plugin.lab.arenas.arena import Question
from fastav_plugin.lab.arenas.measure import Outcome
from fastav_plugin.lab.arenas.run import Found
from fastav_plugin.lab.arenas.setting import Setting, Table

#: A table with its settings, and by label why rows are left out.
Solved = tuple[Table, Sequence[Setting], Mapping[str, str]]


def summarise_dense(found: Found, seed: int = 0) -> dict[str, Any]:
    """How many questions dense answers: all, by kind, and by place, each with its count."""
    right = {question.name: float(found.dense[question.name].right) for question in found.questions}
    return {
        "accuracy": _mean(found.questions, right, seed),
        **_by_facet(found.questions, right),
    }


def summarise_tables(found: Found, solved: Sequence[Solved], seed: int = 0) -> list[dict[str, Any]]:
    """Every table as plain JSON data, dense first.

    Args:
        found: all outcomes.
        solved: the tables and their settings.
        seed: of the intervals.

    Returns:
        By table its key, title, rows and the rows left out. Of a row: `accuracy`, the share of
        the questions that dense answers which it answers as well, with its interval;
        `random` and `against_random`, that of the control with the same counts, and the paired
        difference; `kinds` and `places`; `agreement`; `kl` in nats; `tokens` of an average layer,
        as a share of dense, and `flops_ratio`; `second`, where a second question was asked: the
        share right of those that dense answers.
    """
    summary = _Summary(found, seed)
    return [
        {
            "key": table.key,
            "title": table.title,
            "rows": [
                summary.dense(table.second),
                *(
                    summary.row(setting, table.second)
                    for setting in settings
                    if setting.spec.label not in found.failed
                ),
            ],
            "left_out": _reasons({**left_out, **_of_table(found.failed, settings)}),
        }
        for table, settings, left_out in solved
    ]


def _of_table(failed: Mapping[str, str], settings: Sequence[Setting]) -> dict[str, str]:
    labels = [setting.spec.label for setting in settings]
    return {label: reason for label, reason in failed.items() if label in labels}


def _reasons(left_out: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"setting": label, "reason": reason} for label, reason in left_out.items()]


class _Summary:
    """Outcomes of the questions that dense answers."""

    def __init__(self, found: Found, seed: int) -> None:
        self._found, self._seed = found, seed
        self._asked = [q for q in found.questions if found.dense[q.name].right]

    def dense(self, second: bool) -> dict[str, Any]:
        """The first row: all it answers is retained."""
        return self._measure(DENSE, self._found.dense, second)

    def row(self, setting: Setting, second: bool) -> dict[str, Any]:
        """A setting, and the control beside it."""
        outcomes, controls = (
            {q.name: kept[q.name, setting.digest] for q in self._asked}
            for kept in (self._found.pruned, self._found.controls)
        )
        change = {
            name: float(outcome.right) - float(controls[name].right)
            for name, outcome in outcomes.items()
        }
        row = self._measure(setting.spec.label, outcomes, second)
        row |= {
            "random": self._share(controls),
            "against_random": _mean(self._asked, change, self._seed),
            "hooks": setting.hooks,
            "value": setting.value,
        }
        if second:
            row["random_second"] = self._second(controls)
        return row

    def _measure(self, label: str, outcomes: Mapping[str, Outcome], second: bool) -> dict[str, Any]:
        own = [outcomes[question.name] for question in self._asked]
        dense = [self._found.dense[question.name] for question in self._asked]
        tokens = statistics.fmean(statistics.fmean(outcome.tokens) for outcome in own)
        whole = statistics.fmean(statistics.fmean(outcome.tokens) for outcome in dense)
        right = {question.name: float(outcomes[question.name].right) for question in self._asked}
        agree = {question.name: float(outcomes[question.name].agree) for question in self._asked}
        row: dict[str, Any] = {
            "setting": label,
            "accuracy": _mean(self._asked, right, self._seed),
            **_by_facet(self._asked, right),
            "agreement": _mean(self._asked, agree, self._seed),
            "kl": statistics.fmean(outcome.kl for outcome in own),
            "tokens": tokens,
            "tokens_share": tokens / whole,
            "flops_ratio": statistics.fmean(outcome.flops_ratio for outcome in own),
        }
        if second:
            row["second"] = self._second(outcomes)
        return row

    def _share(self, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        right = {question.name: float(outcomes[question.name].right) for question in self._asked}
        return _mean(self._asked, right, self._seed)

    def _second(self, outcomes: Mapping[str, Outcome]) -> dict[str, Any] | None:
        asked = [q for q in self._asked if self._found.dense[q.name].second]
        right = {question.name: float(bool(outcomes[question.name].second)) for question in asked}
        return _mean(asked, right, self._seed) if asked else None


def _by_facet(questions: Sequence[Question], values: Mapping[str, float]) -> dict[str, Any]:
    """Means by kind and by place of the questions."""
    facets: dict[str, Callable[[Question], str]] = {
        "kinds": lambda question: question.kind,
        "places": lambda question: question.place,
    }
    found: dict[str, Any] = {}
    for name, facet in facets.items():
        groups: dict[str, list[float]] = {}
        for question in questions:
            if facet(question):
                groups.setdefault(facet(question), []).append(values[question.name])
        found[name] = {
            group: {"questions": len(own), "mean": statistics.fmean(own)}
            for group, own in groups.items()
        }
    return found


def _mean(questions: Sequence[Question], values: Mapping[str, float], seed: int) -> dict[str, Any]:
    passages = [question.passage for question in questions]
    own = [values[question.name] for question in questions]
    found = bootstrap_mean(own, passages, seed=seed)._asdict()
    return {"questions": len(own), "passages": len(set(passages)), **found}


#: A cell of a row.
Cell = Callable[[dict[str, Any]], str]


def columns_of(rows: Sequence[dict[str, Any]]) -> dict[str, Cell]:
    """Columns of a printed table by heading; intervals stand in brackets, shares in %."""
    columns: dict[str, Cell] = {
        "setting": lambda row: str(row["setting"]),
        "retained": lambda row: _interval(row["accuracy"]),
        "random": lambda row: _percent(row.get("random")),
        "over random": lambda row: _difference(row.get("against_random")),
    }
    if any(row.get("second") for row in rows):
        columns["second question"] = lambda row: _interval(row["second"])
        columns["random second"] = lambda row: _percent(row.get("random_second"))
    for facet in ("kinds", "places"):
        for name in rows[0][facet]:
            columns[name] = lambda row, facet=facet, name=name: _percent(row[facet][name])  # type: ignore[misc]
    columns |= {
        "as dense": lambda row: _percent(row["agreement"]),
        "KL": lambda row: f"{row['kl']:.3f}",
        "tokens": lambda row: f"{100 * row['tokens_share']:.1f} %",
        "FLOPs": lambda row: f"{100 * row['flops_ratio']:.1f} %",
    }
    return columns


def _percent(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{100 * found['mean']:.0f}"


def _interval(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    mean, low, high = (100 * found[name] for name in ("mean", "low", "high"))
    return f"{mean:.0f} ({low:.0f} to {high:.0f})" if _spreads(found) else f"{mean:.0f}"


def _difference(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    mean, low, high = (round(100 * found[name]) + 0 for name in ("mean", "low", "high"))
    return f"{mean:+d} ({low:+d} to {high:+d})" if _spreads(found) else f"{mean:+d}"


def _spreads(found: Mapping[str, float]) -> bool:
    """Whether an interval says anything: over one passage it has no width."""
    return found["passages"] > 1
