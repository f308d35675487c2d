"""What an evaluation's answers amount to: accuracy, agreement and cost of each setting."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from fastav_plugin.analysis import DENSE
from fastav_plugin.evaluation.bootstrap import bootstrap_mean
from fastav_plugin.evaluation.cider import cider_d
from fastav_plugin.evaluation.matching import CAPTION
from fastav_plugin.evaluation.records import Answer, Record

ACCURACY, CIDER = "accuracy", "cider_d"


def summarise_tasks(records: Sequence[Record], *, seed: int = 0) -> list[dict[str, Any]]:
    """Summaries of every task and, where there are several, of all of them, as plain JSON data.

    Of each, in the order of their first question: its name, the number of its questions and
    clips, and the rows of `summarise`.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.question.task, []).append(record)
    if len(groups) > 1:
        groups["all"] = list(records)
    return [
        {
            "task": task,
            "questions": len(own),
            "clips": len({record.question.clip for record in own}),
            "rows": summarise(own, seed=seed),
        }
        for task, own in groups.items()
    ]


def summarise(records: Sequence[Record], *, seed: int = 0) -> list[dict[str, Any]]:
    """Measure every setting over one question or more, as plain JSON data.

    Returns:
        One row per setting, dense first. Means are over questions; `prefill_seconds` is a
        median. "kept" shares are over questions and layers, of the prompt's tokens. `accuracy`
        is there if some questions have right answers, `cider_d` if some ask for captions;
        "binary" is None unless all right answers are yes or no, "share_of_dense" where dense
        scores 0.
    """
    rows = []
    dense = [record.answers[DENSE] for record in records]
    dense_scores = {m: _scores(records, DENSE, m) for m in (ACCURACY, CIDER)}
    for name in records[0].answers:
        answers = [record.answers[name] for record in records]
        pairs = list(zip(answers, dense, strict=True))
        layers = range(max(len(answer.tokens) for answer in answers))
        row: dict[str, Any] = {"setting": name}
        for metric, reference in dense_scores.items():
            if reference:
                row |= _score(records, metric, _scores(records, name, metric), reference, seed)
        judged = [records[i] for i in dense_scores[ACCURACY]]
        row["binary"] = binary(judged, name)
        row |= {
            "agreement": _mean(records, {i: float(_same(*p)) for i, p in enumerate(pairs)}, seed),
            "same_tokens": _mean(
                records, {i: float(answer.same_tokens) for i, answer in enumerate(answers)}, seed
            ),
            "kl": _mean(records, {i: answer.kl for i, answer in enumerate(answers)}, seed),
            "tokens_per_layer": [fmean(a.tokens[layer] for a in answers) for layer in layers],
            "tokens": fmean(fmean(a.tokens) for a in answers),
            "kept": {
                "all": _share([(a.tokens, d.tokens) for a, d in pairs]),
                "visual": _share([(a.visual, d.visual) for a, d in pairs]),
                "audio": _share([(a.audio, d.audio) for a, d in pairs]),
            },
            "flops_ratio": fmean(answer.flops_ratio for answer in answers),
            "kv_bytes": fmean(answer.kv_bytes for answer in answers),
            "prefill_seconds": median(answer.seconds for answer in answers),
            "new_tokens": fmean(answer.new_tokens for answer in answers),
            "unread": sum(not answer.read for answer in answers),
            "uncut": sum(answer.reason is not None for answer in answers),
        }
        rows.append(row)
    return rows


def _score(
    records: Sequence[Record],
    metric: str,
    scores: dict[int, float],
    dense: dict[int, float],
    seed: int,
) -> dict[str, Any]:
    """A metric, its distance from dense, and by task where there are right answers."""
    of_dense = fmean(dense.values())
    found: dict[str, Any] = {
        metric: _mean(records, scores, seed),
        f"{metric}_change": _mean(records, {i: v - dense[i] for i, v in scores.items()}, seed),
    }
    share = fmean(scores.values()) / of_dense if of_dense else None
    found["share_of_dense" if metric == ACCURACY else f"{metric}_share_of_dense"] = share
    if metric == CIDER:
        return found
    found["tasks"] = {}
    for task in dict.fromkeys(records[i].question.task for i in scores):
        own = {i: v for i, v in scores.items() if records[i].question.task == task}
        chance = records[next(iter(own))].question.chance
        found["tasks"][task] = {**_mean(records, own, seed), "chance": chance}
    return found


def binary(records: Sequence[Record], name: str) -> dict[str, float | None] | None:
    """Precision, recall and F1 of "yes", and the share of answers that are yes.

    An answer in which no yes or no was understood counts as no yes. A figure without a case is
    None: precision where nothing was answered yes, recall where nothing is. None in all unless
    every right answer is yes or no.
    """
    pairs = [(record.question.right[0].lower(), record.answers[name].read) for record in records]
    if not pairs or not {right for right, _ in pairs} <= {"yes", "no"}:
        return None
    said, true = (sum(pair[place] == "yes" for pair in pairs) for place in (1, 0))
    both = sum(pair == ("yes", "yes") for pair in pairs)
    return {
        "precision": both / said if said else None,
        "recall": both / true if true else None,
        "f1": 2 * both / (said + true) if said + true else None,
        "yes_rate": said / len(pairs),
    }


def _scores(records: Sequence[Record], name: str, metric: str) -> dict[int, float]:
    """The score of one setting for each record, by its place, that the metric is for."""
    if metric == ACCURACY:
        scores = {i: record.answers[name].score for i, record in enumerate(records)}
        return {i: score for i, score in scores.items() if score is not None}
    places = [i for i, record in enumerate(records) if record.question.rule == CAPTION]
    captions = [records[i].answers[name].read for i in places]
    found = cider_d(captions, [records[i].question.right for i in places])
    return dict(zip(places, found, strict=True))


def _mean(records: Sequence[Record], values: dict[int, float], seed: int) -> dict[str, Any]:
    clips = [records[i].question.clip for i in values]
    found = bootstrap_mean(list(values.values()), clips, seed=seed)
    return {"questions": len(values), **found._asdict()}


def _same(answer: Answer, dense: Answer) -> bool:
    """Whether both were understood alike; where nothing was, whether both are the same text."""
    return answer.read == dense.read if dense.read or answer.read else answer.text == dense.text


def _share(pairs: Sequence[tuple[list[int], list[int]]]) -> float:
    """Sum of the first counts as a share of the second; 1 where there is nothing to keep."""
    whole = sum(sum(dense) for _, dense in pairs)
    return sum(sum(kept) for kept, _ in pairs) / whole if whole else 1.0
