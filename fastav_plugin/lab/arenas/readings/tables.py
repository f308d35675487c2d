"""Both tables of a study: rankings in one cut, and what attention sees layer by layer."""

import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from torch import Tensor

from fastav_plugin.evaluation.bootstrap import bootstrap_mean
from fastav_plugin.lab.arenas.readings.rankings import LAST, RANDOM, RANKINGS, SINKS, top_share
from fastav_plugin.lab.arenas.readings.study import Asked, Study

Row = dict[str, Any]


def ranking_rows(study: Study, seed: int = 0) -> list[Row]:
    """How good a cut by each ranking is.

    Returns:
        Of each ranking: `retained`, the share right of the questions that dense answers;
        `against_last` and `against_random`, the paired differences; `recall`, the share of the
        answer's tokens that were kept; `precision`, the share of the kept tokens that are the
        answer's. Each as a mean with its interval over passages, the last two where the answer's
        tokens are known; None if they are known of no question.
    """
    right = study.right
    known = [each for each in right if each.evidence.any()]

    def was_right(each: Asked, name: str) -> float:
        return float(study.cuts[each.question.name, name].outcome.right)

    def kept(each: Asked, name: str) -> Tensor:
        return study.cuts[each.question.name, name].kept

    rows = []
    for name in RANKINGS:
        own = [was_right(each, name) for each in right]
        row: Row = {"ranking": name, "retained": _mean(right, own, seed)}
        for key, other in (("against_last", LAST), ("against_random", RANDOM)):
            change = [x - was_right(each, other) for x, each in zip(own, right, strict=True)]
            row[key] = _mean(right, change, seed)
        row["recall"] = _mean(known, [_recall(each, kept(each, name)) for each in known], seed)
        row["precision"] = _mean(
            known, [float(each.evidence[kept(each, name)].float().mean()) for each in known], seed
        )
        rows.append(row)
    return rows


def layer_rows(study: Study, seed: int = 0) -> list[Row]:
    """What the last query's attention in each layer sees, of questions that dense answers.

    Returns:
        Of each layer: `recall` of the answer's tokens in the best tenth (or what is kept);
        `media`, the share of attention that media have; `sinks`, the share of that on the most
        attended `SINKS` media tokens; `ends`, the share of these that are among the first or last
        `SINKS` media tokens; `same`, the share of the best tenth that is the same for two
        questions about one passage, over all pairs. Each as a mean with its interval over passages.
    """
    right = study.right
    known = [each for each in right if each.evidence.any()]
    pairs = [
        (one, other)
        for one, other in combinations(right, 2)
        if one.question.passage == other.question.passage and len(one.media) == len(other.media)
    ]
    rows = []
    for layer in range(len(right[0].layers) if right else 0):
        best = {
            each.question.name: top_share(each.layers[layer].last, study.keep).cpu()
            for each in right
        }
        recalls = [_recall(each, best[each.question.name]) for each in known]
        shared = [_share(best[a.question.name], best[b.question.name]) for a, b in pairs]
        seen = [_Seen(each.layers[layer].last) for each in right]
        rows.append(
            {
                "layer": layer,
                "recall": _mean(known, recalls, seed),
                "media": _mean(right, [each.media for each in seen], seed),
                "sinks": _mean(right, [each.sinks for each in seen], seed),
                "ends": _mean(right, [each.ends for each in seen], seed),
                "same": _mean([one for one, _ in pairs], shared, seed),
            }
        )
    return rows


class _Seen:
    """Shares of one layer's attention: on media, on sinks, and of sinks at the ends."""

    def __init__(self, last: Tensor) -> None:
        most = last.topk(min(SINKS, len(last)))
        self.media = float(last.sum())
        self.sinks = float(most.values.sum() / last.sum())
        at_ends = (most.indices < SINKS) | (most.indices >= len(last) - SINKS)
        self.ends = float(at_ends.float().mean())


def _recall(asked: Asked, kept: Tensor) -> float:
    return _share(asked.evidence, kept)


def _share(tokens: Tensor, others: Tensor) -> float:
    """Share of some tokens, bool [N], that are among others."""
    return float((tokens & others).sum() / tokens.sum())


def _mean(asked: Sequence[Asked], values: Sequence[float], seed: int) -> Row | None:
    if not values:
        return None
    passages = [each.question.passage for each in asked]
    return {"questions": len(values), **bootstrap_mean(values, passages, seed=seed)._asdict()}


def evidence_share(study: Study) -> float | None:
    """Share of the media that the answer's tokens are, in the mean; None if unknown."""
    found = [float(each.evidence.float().mean()) for each in study.right if each.evidence.any()]
    return statistics.fmean(found) if found else None


def render(rows: Sequence[Row]) -> str:
    """Rows as a table of Markdown; shares in percent, intervals in brackets."""
    if not rows:
        return "No question is answered without pruning."
    names = list(rows[0])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|" + "|".join("---" if name == names[0] else "---:" for name in names) + "|")
    for row in rows:
        cells = [str(row[names[0]]), *(_cell(row[name]) for name in names[1:])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(found: Row | None) -> str:
    if found is None:
        return ""
    mean, low, high = (100 * found[name] for name in ("mean", "low", "high"))
    return f"{mean:.0f} ({low:.0f} to {high:.0f})"
