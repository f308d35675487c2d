"""A picture of accuracy against FLOPs, from what `fastav eval --json` printed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastav_plugin.analysis import DENSE
from fastav_plugin.analysis.drawing.page import MARKERS, WIDTH, Page, plain
from fastav_plugin.display.palette import DROPPED, FAINT, INK, SERIES
from fastav_plugin.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACCURACY = "accuracy"
#: Inches above the axes.
_HEAD = 0.82


@dataclass(frozen=True)
class Point:
    """One setting: its FLOPs as a fraction of dense, and how often it is right.

    `accuracy` is the mean, and the low and high end of its interval, as fractions.
    """

    name: str
    flops: float
    accuracy: tuple[float, float, float]


def read_points(path: Path) -> dict[str, list[Point]]:
    """The settings of each set of questions or table in what `fastav eval --json` printed.

    Raises:
        ConfigError: another kind of file.
    """
    found = read_result(path)
    try:
        parts = found.get("tables") or found["sets"]
        points = {
            _title(part): [_point(row) for row in part["rows"] if _ACCURACY in row]
            for part in parts
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"'{path}' is not what `fastav eval --json` prints: it lacks tables or sets of "
            "questions whose rows have a setting, a FLOPs ratio and an accuracy."
        ) from error
    judged = {title: own for title, own in points.items() if own}
    if not judged:
        raise ConfigError(f"'{path}' holds no accuracy, as questions with right answers have.")
    return judged


def read_extent(path: Path) -> str:
    """How many questions an evaluation asked, for a subtitle; "" where its file does not say."""
    found = read_result(path)
    questions, clips = (found.get(name) for name in ("questions", "clips"))
    if not isinstance(questions, int):
        return ""
    return f"{questions:,} questions" + (f" about {clips:,} clips" if clips else "")


def read_result(path: Path) -> Any:
    """What a file of `fastav eval --json` holds; ConfigError if it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"'{path}' cannot be read as JSON: {error}.") from error


def cost_range(points: Sequence[Point]) -> float:
    """Between the cheapest and the dearest setting, as a fraction of the dense FLOPs."""
    costs = [point.flops for point in points]
    return max(costs) - min(costs)


def _title(part: dict[str, Any]) -> str:
    if "title" in part:
        return str(part["title"])
    return f"held-out {part['held_out']}" if "held_out" in part else str(part["task"])


def _point(row: dict[str, Any]) -> Point:
    accuracy = row[_ACCURACY]
    mean, low, high = (float(accuracy[name]) for name in ("mean", "low", "high"))
    return Point(str(row["setting"]), float(row["flops_ratio"]), (mean, low, high))


def draw_tradeoff(path: str | Path, points: Sequence[Point], *, title: str, about: str) -> None:
    """Draw each setting as a point with its interval; dense is a line across.

    Raises:
        ConfigError: no setting but dense.
    """
    pruned = [point for point in points if point.name != DENSE]
    if not pruned:
        raise ConfigError("Accuracy against FLOPs needs at least one setting besides dense.")
    names_wide = 0.55 + 0.072 * max(len(_label(point)) for point in pruned)
    tall = max(3.2, 0.25 * len(pruned) + 0.3)
    page = Page(path, _HEAD + tall + 0.6)
    axes = _axes(page, title, about, tall, beside=names_wide)
    _dense_line(axes, points)
    for number, point in enumerate(pruned):
        _draw(axes, point, number)
    axes.set_xlim(0, max(1.03 * 100 * point.flops for point in pruned))
    _mark_break(axes)
    _legend(axes, loc="upper left", bbox_to_anchor=(1.02, 1.01), borderaxespad=0)
    page.save()


def draw_curves(
    path: str | Path,
    tables: Mapping[str, Sequence[Point]],
    *,
    title: str,
    about: str,
    marked: Sequence[Point] = (),
) -> None:
    """Draw each table by its title as a line through its settings; dense is a line across.

    `marked` are settings of no line, each a star with its name.
    """
    tall = 3.6
    page = Page(path, _HEAD + tall + 0.6)
    axes = _axes(page, title, about, tall)
    for number, (name, points) in enumerate(tables.items()):
        _dense_line(axes, points)
        pruned = sorted((p for p in points if p.name != DENSE), key=lambda point: point.flops)
        flops = [100 * point.flops for point in pruned]
        mean, low, high = ([100 * p.accuracy[i] for p in pruned] for i in range(3))
        colour = SERIES[number % len(SERIES)]
        axes.fill_between(flops, low, high, color=colour, alpha=0.14, linewidth=0)
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(flops, mean, marker=marker, color=colour, markersize=5.5, label=name)
    for number, point in enumerate(marked, len(tables)):
        _draw(axes, point, number, marker="*", markersize=14)
    axes.set_xlim(0, 102)
    _mark_break(axes)
    _legend(axes, loc="best")
    page.save()


def _dense_line(axes: Axes, points: Sequence[Point]) -> None:
    """A broad pale line, so that settings which reach it are still seen."""
    for point in points:
        if point.name == DENSE and not axes.texts:
            mean = 100 * point.accuracy[0]
            axes.axhline(mean, color=DROPPED, linewidth=7, zorder=1)
            axes.annotate(
                f"dense {mean:.1f} %",
                (1, mean),
                xycoords=("axes fraction", "data"),
                xytext=(0, 6),
                textcoords="offset points",
                ha="right",
                size=8.5,
                color=INK,
            )


def _axes(page: Page, title: str, about: str, tall: float, *, beside: float = 0.0) -> Axes:
    """Labelled axes, with room for a legend beside them."""
    left = 0.78
    page.heading(title, about)
    axes = page.axes(left, _HEAD, WIDTH - left - beside - 0.3, tall)
    plain(axes, grid="both")
    axes.margins(y=0.09)
    axes.set_xlabel("prefill FLOPs, % of dense", size=9, color=FAINT)
    axes.set_ylabel("right answers, %", size=9, color=FAINT)
    return axes


def _mark_break(axes: Axes) -> None:
    """Two strokes through the foot of an axis that does not begin at 0, and its first value."""
    low = axes.get_ylim()[0]
    if low <= 0:
        axes.set_ylim(bottom=0)
        return
    for place in (0.012, 0.032):
        stroke = [(-0.012, 0.012), (place - 0.008, place + 0.008)]
        axes.plot(*stroke, transform=axes.transAxes, color=FAINT, linewidth=1, clip_on=False)
    axes.annotate(
        "axis cut off",
        (0, 0.022),
        xycoords="axes fraction",
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        size=8,
        color=FAINT,
    )


def _legend(axes: Axes, **place: Any) -> None:
    axes.legend(
        frameon=False, fontsize=8.5, labelcolor=INK, handletextpad=0.5, labelspacing=0.6, **place
    )


def _draw(
    axes: Axes,
    point: Point,
    number: int,
    *,
    marker: str | None = None,
    markersize: float = 6.5,
) -> None:
    mean, low, high = (100 * value for value in point.accuracy)
    axes.errorbar(
        [100 * point.flops],
        [mean],
        yerr=[[max(0, mean - low)], [max(0, high - mean)]],
        fmt=marker or MARKERS[number % len(MARKERS)],
        color=SERIES[number % len(SERIES)],
        markersize=markersize,
        markeredgecolor="white",
        markeredgewidth=0.6,
        elinewidth=1.1,
        label=_label(point),
        zorder=4,
    )


def _label(point: Point) -> str:
    return f"{point.name}: {100 * point.accuracy[0]:.1f} % at {100 * point.flops:.0f} %"
