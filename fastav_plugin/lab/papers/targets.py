"""The accuracy targets: which settings they are measured on, and how those are chosen."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fastav_plugin.lab.papers.base import Base, scale_rule
from fastav_plugin.lab.papers.setting import Hooks, PaperSetting, PaperTable

#: The choice that the table of targets rests on, as `fastav eval --suite papers --select` wrote it.
CHOSEN = Path(__file__).with_name("chosen.json")
#: FastAV's P, and the share that DivPrune keeps where a target says it.
DROP, HALF = 0.2, 0.5
#: What is tried: factors of the rule's numbers, and DivPrune's keep ratios; None is without it.
SHARES = (0.25, 1.0, 4.0)
KEEPS = (None, 0.25, HALF)


@dataclass(frozen=True)
class Target:
    """What a setting has to reach.

    Attributes:
        keeps: DivPrune's keep ratios that it may have.
        accuracy: right answers as a share of dense's, at least.
        agreement: share of answers that dense gives, at least.
        flops: fraction of dense, at most.
    """

    keeps: Sequence[float | None]
    accuracy: float
    agreement: float = 0.0
    flops: float = 1.0


TARGETS = {
    "fastav": Target((None,), 0.99, agreement=0.97),
    "divprune 50 % + fastav": Target((HALF,), 0.98, flops=0.35),
    "divprune + fastav": Target((0.25, HALF), 0.98, flops=0.35),
}


@dataclass(frozen=True)
class GridPoint:
    """One point of the grid.

    Attributes:
        depth: of the global cut, as a fraction of the layers.
        share: factor of the numbers of the model's own rule.
        keep: DivPrune's keep ratio for all media before it; None is without it.
    """

    depth: float
    share: float
    keep: float | None

    def name(self, base: Base) -> str:
        """What it is called in a table."""
        before = "" if self.keep is None else f"divprune {100 * self.keep:.0f} % + "
        return f"{before}fastav, cut at layer {self._layer(base)}, rule times {self.share:g}"

    def hooks(self, base: Base) -> Hooks:
        """What it does to one model."""
        before = [] if self.keep is None else [base.divprune(self.keep)]
        rule = scale_rule(base.rules, self.share)
        return [*before, *base.fastav(self._layer(base), DROP, rule)]

    def _layer(self, base: Base) -> int:
        return round(self.depth * base.layers)


def grid(base: Base) -> list[GridPoint]:
    """Every cut from the published middle layer on, at each share and keep ratio."""
    layers = range(base.layers // 2, base.layers)
    return [
        GridPoint(layer / base.layers, share, keep)
        for keep in KEEPS
        for layer in layers
        for share in SHARES
    ]


def selection(base: Base) -> tuple[list[PaperSetting], list[PaperTable]]:
    """The grid as one table."""
    settings = [_setting(base, candidate) for candidate in grid(base)]
    wanted = "; ".join(
        f"{name}: {100 * target.accuracy:.0f} %, {100 * target.agreement:.0f} % as dense, "
        f"{100 * target.flops:.0f} % of the FLOPs"
        for name, target in TARGETS.items()
    )
    return settings, [
        PaperTable(
            "selection",
            f"Settings that the targets could be measured on, P = {100 * DROP:.0f} %",
            "For each target the cheapest is taken that reaches it: right answers as a share of "
            "dense's at least, judged half-way from their mean to the lower end of its interval; "
            f"agreement at least and FLOPs at most, by their means ({wanted}).",
            [(setting.name, setting.name) for setting in settings],
        )
    ]


def choose(base: Base, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """The cheapest candidate that reaches each target with a margin.

    Its right answers are judged half-way from their mean to the lower end of the 95 % interval,
    about one standard error below: by the mean alone, the cheapest of many is one that was lucky.

    Args:
        base: that of `selection`.
        rows: of its table, dense first.

    Returns:
        By target the fields of a `GridPoint`; None where none reaches it.
    """
    return {name: _cheapest(base, rows, target) for name, target in TARGETS.items()}


def record_choice(base: Base, found: Mapping[str, Any]) -> dict[str, Any]:
    """The choice and what it rests on, as `CHOSEN` holds them.

    Args:
        base: that of `selection`.
        found: what `fastav eval --suite papers --select FILE --json` prints.
    """
    rows = found["tables"][0]["rows"]
    facts = ("model", "first_clip", "questions", "clips", "device", "dtype", "torch")
    fields = ("setting", "accuracy", "share_of_dense", "agreement", "flops_ratio")
    return {
        "chosen": choose(base, rows),
        "targets": {name: asdict(target) for name, target in TARGETS.items()},
        **{name: found[name] for name in facts},
        "rows": [{name: row[name] for name in fields} for row in rows],
    }


def _cheapest(
    base: Base, rows: Sequence[Mapping[str, Any]], target: Target
) -> dict[str, Any] | None:
    dense = rows[0]["accuracy"]["mean"]
    reached = [
        (row["flops_ratio"], candidate)
        for candidate, row in zip(grid(base), rows[1:], strict=True)
        if candidate.keep in target.keeps
        and 0 < target.accuracy * dense <= (row["accuracy"]["mean"] + row["accuracy"]["low"]) / 2
        and row["agreement"]["mean"] >= target.agreement
        and row["flops_ratio"] <= target.flops
    ]
    return asdict(min(reached, key=lambda pair: pair[0])[1]) if reached else None


def targets(base: Base) -> tuple[list[PaperSetting], PaperTable]:
    """What the targets are measured on: the published layer, the model's own, and the chosen."""
    middle = base.layers // 2
    half = base.divprune(HALF)
    chosen = json.loads(CHOSEN.read_text(encoding="utf-8"))["chosen"].values()
    picked = [GridPoint(**fields) for fields in chosen if fields is not None]
    # What is best alone is also seen after DivPrune.
    picked += [replace(candidate, keep=HALF) for candidate in picked if candidate.keep is None]
    settings = [
        PaperSetting("fastav, the model's own", lambda _: base.fastav(drop=DROP)),
        PaperSetting(f"fastav, cut at layer {middle}", lambda _: base.fastav(middle, DROP)),
        PaperSetting(
            f"fastav, fine cuts alone from layer {middle + 1}", lambda _: [base.fine(middle, DROP)]
        ),
        PaperSetting("divprune 50 %", lambda _: [half]),
        PaperSetting("divprune 50 % + fastav", lambda _: [half, *base.fastav(drop=DROP)]),
        PaperSetting(
            f"divprune 50 % + fastav, cut at layer {middle}",
            lambda _: [half, *base.fastav(middle, DROP)],
        ),
        # Two targets may choose the same.
        *(_setting(base, candidate) for candidate in dict.fromkeys(picked)),
    ]
    return settings, PaperTable(
        "targets",
        f"Accuracy targets: FastAV with P = {100 * DROP:.0f} %, alone and after DivPrune",
        "The lines with a factor were chosen by `--select` on clips that are not reported on; what "
        "it chose for FastAV alone also stands after DivPrune.",
        [(setting.name, setting.name) for setting in settings],
    )


def _setting(base: Base, candidate: GridPoint) -> PaperSetting:
    return PaperSetting(candidate.name(base), lambda _: candidate.hooks(base))
