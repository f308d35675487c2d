"""A picture of what every method retains at its cost, arena by arena, and the best at each cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastav_plugin.analysis import BUDGETS, DENSE
from fastav_plugin.analysis.drawing.page import WIDTH, Page, plain
from fastav_plugin.analysis.drawing.tradeoff import read_result
from fastav_plugin.display.palette import BLACK, BLUE, DROPPED, FAINT, INK, ORANGE, VERMILION
from fastav_plugin.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: How far above a budget its settings' tokens may be: they were solved on some of the prompts.
CLOSE = 0.01
#: A table whose settings know the answer, so bound what a method can reach.
BOUND = "upper-bound"
#: Points of per cent on the axis of FLOPs within which two marks would hide each other.
NEAR = 2.5
#: Inches: height of a panel, of a line of text, and above the first panel.
_TALL, _LINE, _HEAD = 2.5, 0.21, 0.8


@dataclass(frozen=True)
class Measured:
    """One setting in one arena; all values are fractions of dense's.

    Attributes:
        name: of the setting.
        retained: share of dense's right answers that it gives, with the ends of its interval.
        flops: prefill FLOPs.
        tokens: tokens of an average layer.
        random: share that the random control with its counts retains; None without one.
        bound: whether it knows where the answer is.
    """

    name: str
    retained: tuple[float, float, float]
    flops: float
    tokens: float
    random: float | None = None
    bound: bool = False


@dataclass(frozen=True)
class Measurements:
    """The settings of one arena.

    Attributes:
        arena: its name, and what it asked, in words.
        extent: how many questions there were.
        settings: without dense.
    """

    arena: str
    extent: str
    settings: tuple[Measured, ...]

    def best(self) -> dict[float, Measured]:
        """By budget the setting that retains most within it, of equals the cheapest."""
        found = {}
        for budget in BUDGETS:
            within = [s for s in self.settings if s.tokens <= budget + CLOSE and not s.bound]
            if within:
                found[budget] = max(within, key=lambda s: (s.retained[0], -s.flops))
        return found


def read_measurements(path: Path) -> Measurements:
    """The settings of all tables in what `fastav eval --suite ... --json` printed.

    Accuracies of the suite papers are divided by that of dense.

    Raises:
        ConfigError: another kind of file.
    """
    found = read_result(path)
    try:
        settings = [setting for table in found["tables"] for setting in _settings(table)]
        about = [str(found["suite"]), str(found.get("passages", ""))]
        extent = f"{found['questions']:,} questions about {found['clips']:,} clips or passages"
        if "answered" in found:  # what is retained is of these alone
            extent = f"dense answers {found['answered']:,} of {extent}"
    except (KeyError, TypeError, ValueError, ZeroDivisionError, IndexError) as error:
        raise ConfigError(
            f"'{path}' is not what `fastav eval --suite papers`, real-lm or real-audio prints with "
            "`--json`: it lacks tables whose first row is dense."
        ) from error
    if not settings:
        raise ConfigError(f"'{path}' holds no setting besides dense.")
    # One setting may stand in several tables.
    return Measurements(" ".join(filter(None, about)), extent, tuple(dict.fromkeys(settings)))


def _settings(table: dict[str, Any]) -> list[Measured]:
    dense = table["rows"][0]
    if dense["setting"] != DENSE:
        raise KeyError(DENSE)
    whole, right = dense["tokens"], dense["accuracy"]["mean"]
    return [
        Measured(
            str(row["setting"]),
            tuple(float(row["accuracy"][end]) / right for end in ("mean", "low", "high")),
            float(row["flops_ratio"]),
            float(row["tokens"]) / whole,
            float(row["random"]["mean"]) / right if "random" in row else None,
            table["key"] == BOUND,
        )
        for row in table["rows"][1:]
    ]


def draw_frontier(path: str | Path, arenas: Sequence[Measurements], *, title: str) -> None:
    """Draw each arena as a panel, and write under it the best setting at each budget."""
    below = _LINE * max(1, *(len(arena.best()) for arena in arenas)) + 0.7
    page = Page(path, _HEAD + len(arenas) * (_TALL + below))
    page.heading(
        title,
        "Share of dense's right answers against prefill FLOPs; intervals of 95 %. The line joins "
        "what no cheaper setting beats.",
    )
    for number, arena in enumerate(arenas):
        top = _HEAD + number * (_TALL + below)
        page.text(0.15, top + 0.05, f"{arena.arena}: {arena.extent}", size=9.5, weight="bold")
        axes = page.axes(0.78, top + 0.18, WIDTH - 1.1, _TALL - 0.1)
        _panel(axes, arena, legend=number == 0)
        _name_best(page, arena, top + _TALL + 0.62)
    page.save()


def _panel(axes: Axes, arena: Measurements, *, legend: bool) -> None:
    plain(axes, grid="both")
    axes.axhline(100, color=DROPPED, linewidth=6, zorder=1)
    own = [s for s in arena.settings if not s.bound]
    _points(axes, [s for s in arena.settings if s.bound], "D", ORANGE, "knows the answer's tokens")
    drawn = [s for s in own if s.random is not None]
    axes.plot(
        [100 * s.flops for s in drawn],
        [100 * (s.random or 0) for s in drawn],
        "x",
        color=FAINT,
        markersize=4,
        label="random, as many tokens",
    )
    _points(axes, own, "o", BLUE, "a setting")
    line = frontier(own)
    axes.plot(
        [100 * s.flops for s in line],
        [100 * s.retained[0] for s in line],
        color=VERMILION,
        linewidth=1.4,
        zorder=5,
    )
    taken: list[tuple[float, float]] = []
    for mark, setting in zip("1234", arena.best().values(), strict=False):
        _mark(axes, mark, setting, taken)
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 109)
    axes.set_xlabel("prefill FLOPs, % of dense", size=9, color=FAINT)
    axes.set_ylabel("retained answers, %", size=9, color=FAINT)
    if legend:
        axes.legend(
            frameon=False, fontsize=8, labelcolor=INK, loc="upper left", bbox_to_anchor=(0.0, 0.62)
        )


def _points(axes: Axes, settings: Sequence[Measured], marker: str, colour: str, label: str) -> None:
    if not settings:
        return
    mean, low, high = ([100 * s.retained[i] for s in settings] for i in range(3))
    axes.errorbar(
        [100 * s.flops for s in settings],
        mean,
        yerr=[
            [max(0, m - end) for m, end in zip(mean, low, strict=True)],
            [max(0, end - m) for m, end in zip(mean, high, strict=True)],
        ],
        fmt=marker,
        color=colour,
        markersize=4.5,
        elinewidth=0.7,
        alpha=0.75,
        markeredgewidth=0,
        label=label,
        zorder=4,
    )


def frontier(settings: Sequence[Measured]) -> list[Measured]:
    """Those that no other beats at its cost or less, the cheapest first."""
    found: list[Measured] = []
    for setting in sorted(settings, key=lambda s: (s.flops, -s.retained[0])):
        if not found or setting.retained[0] > found[-1].retained[0]:
            found.append(setting)
    return found


def _mark(axes: Axes, mark: str, setting: Measured, taken: list[tuple[float, float]]) -> None:
    """A number in a circle on a setting, beside those that are there already."""
    place = 100 * setting.flops, 100 * setting.retained[0]
    near = [at for at in taken if abs(at[0] - place[0]) < NEAR and abs(at[1] - place[1]) < 2 * NEAR]
    taken.append(place)
    axes.annotate(
        mark,
        place,
        xytext=(11 * len(near), 0),
        textcoords="offset points",
        ha="center",
        va="center",
        size=7.5,
        color="white",
        weight="bold",
        bbox={"boxstyle": "circle,pad=0.22", "facecolor": BLACK, "edgecolor": "white"},
        zorder=6 + int(mark),
    )


def _name_best(page: Page, arena: Measurements, top: float) -> None:
    best = arena.best()
    if not best:
        page.text(0.78, top, "No setting is within a budget.", size=8.5, color=FAINT)
    for mark, (budget, setting) in zip("1234", best.items(), strict=False):
        page.text(0.78, top, f"{mark}   {_in_words(budget, setting)}", size=8)
        top += _LINE


def _in_words(budget: float, setting: Measured) -> str:
    """The best setting at a budget, and what as many random tokens retain."""
    mean, low, high = (100 * value for value in setting.retained)
    random = "" if setting.random is None else f", random {100 * setting.random:.0f} %"
    return (
        f"{100 * budget:.0f} % of the tokens: {setting.name}: {mean:.0f} % ({low:.0f} to "
        f"{high:.0f}){random}; {100 * setting.flops:.0f} % of the FLOPs"
    )
