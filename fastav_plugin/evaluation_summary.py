"""What an evaluation's answers amount to: accuracy, agreement and cost of each setting."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from fastav_plugin.bootstrap import bootstrap_mean
from fastav_plugin.comparison import DENSE
from fastav_plugin.evaluation_file import Record
from fastav_plugin.testbed.tasks import CHANCE, TASKS


def summarise(records: Sequence[Record], *, seed: int = 0) -> list[dict[str, Any]]:
    """Measure every setting over the questions of one held-out set, as plain JSON data.

    Args:
        records: all with the same settings.
        seed: of the confidence intervals.

    Returns:
        One row per setting, dense first. Means are over questions; `prefill_seconds` is a
        median. "kept" shares are over questions and layers, of the prompt's tokens.
    """
    clips = [record.seed for record in records]

    def measure(values: Sequence[float], of: str | None = None) -> dict[str, Any]:
        kept = [i for i, record in enumerate(records) if of in (None, record.task)]
        found = bootstrap_mean([values[i] for i in kept], [clips[i] for i in kept], seed=seed)
        return {"questions": len(kept), **found.to_dict()}

    asked = [task for task in TASKS if any(record.task == task for record in records)]
    dense = [record.answers[DENSE] for record in records]
    rows = []
    for name in records[0].answers:
        answers = [record.answers[name] for record in records]
        pairs = list(zip(answers, dense, strict=True))
        right = [float(record.answers[name].word == record.right) for record in records]
        dense_right = [float(record.answers[DENSE].word == record.right) for record in records]
        change = [mine - other for mine, other in zip(right, dense_right, strict=True)]
        layers = range(len(answers[0].tokens))
        rows.append(
            {
                "setting": name,
                "accuracy": measure(right),
                "tasks": {task: {**measure(right, task), "chance": CHANCE[task]} for task in asked},
                "accuracy_change": measure(change),
                "agreement": measure([float(a.word == d.word) for a, d in pairs]),
                "kl": measure([answer.kl for answer in answers]),
                "tokens_per_layer": [
                    statistics.fmean(answer.tokens[layer] for answer in answers) for layer in layers
                ],
                "tokens": statistics.fmean(statistics.fmean(a.tokens) for a in answers),
                "kept": {
                    "all": _share([(a.tokens, d.tokens) for a, d in pairs]),
                    "visual": _share([(a.visual, d.visual) for a, d in pairs]),
                    "audio": _share([(a.audio, d.audio) for a, d in pairs]),
                },
                "flops_ratio": statistics.fmean(answer.flops_ratio for answer in answers),
                "kv_bytes": statistics.fmean(answer.kv_bytes for answer in answers),
                "prefill_seconds": statistics.median(answer.seconds for answer in answers),
                "uncut": sum(answer.reason is not None for answer in answers),
            }
        )
    return rows


def _share(pairs: Sequence[tuple[list[int], list[int]]]) -> float:
    """Sum of the first counts as a share of the second; 1 where there is nothing to keep."""
    whole = sum(sum(dense) for _, dense in pairs)
    return sum(sum(kept) for kept, _ in pairs) / whole if whole else 1.0
