"""Pictures of what `fastav bench` measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastav_plugin.analysis.drawing.page import MARKERS, check_drawing
from fastav_plugin.display.palette import BLACK, SERIES, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Dense comes first.
_COLOURS = (BLACK, *(colour for colour in SERIES if colour != BLACK))


def draw_bench(path: str | Path, found: Mapping[str, Any]) -> None:
    """Draw curves over prompt length where several were measured, bars against theory otherwise.

    Args:
        path: .png or .svg file to write.
        found: what `bench.describe` returns.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    check_drawing()
    from matplotlib.figure import Figure

    points = found["points"]
    curves = len({point["prompt"]["tokens"] for point in points}) > 1
    panels = _curve_panels(points) if curves else {}
    figure = Figure(
        figsize=(4.3 * len(panels), 3.9) if curves else (8.6, 1.6 + 0.42 * _bars(points)),
        dpi=110,
        layout="constrained",
    )
    machine = found["machine"]
    figure.suptitle(
        f"{found['shape']}, {found['dtype']}, {machine['gpu'] or machine['processor']}, "
        f"threads: {machine['threads']}",
        fontsize=10,
    )
    if not curves:
        _draw_bars(figure.add_subplot(), points)
    for index, (title, value) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), index + 1)
        _draw_curves(axes, points, value)
        axes.set_title(title, fontsize=10)
        if index == 0:
            axes.legend(fontsize=8, frameon=False)
    figure.savefig(path)


def _curve_panels(points: Any) -> dict[str, Callable[[Any], float]]:
    first = points[0]["cases"][0]
    panels: dict[str, Callable[[Any], float]] = {
        "Time to first token, s": lambda case: float(case["median_seconds"])
    }
    if first["decode_seconds"] is not None:
        panels["Time of a later token, s"] = lambda case: float(case["decode_seconds"])
    if first["call_bytes"] is not None:
        panels["Memory of the call, MB"] = lambda case: float(case["call_bytes"]) / 1e6
    panels["Keys and values, MB"] = lambda case: float(case["kv_bytes"]) / 1e6
    return panels


def _draw_curves(axes: Axes, points: Any, value: Callable[[Any], float]) -> None:
    from matplotlib.ticker import LogLocator

    batches = sorted({point["batch"] for point in points})
    for row, batch in enumerate(batches):
        own = [point for point in points if point["batch"] == batch]
        lengths = [point["prompt"]["tokens"] for point in own]
        for index, case in enumerate(own[0]["cases"]):
            label = case["case"] + (f", batch {batch}" if len(batches) > 1 else "")
            axes.plot(
                lengths,
                [value(point["cases"][index]) for point in own],
                color=_COLOURS[index % len(_COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                linestyle=("-", "--", ":", "-.")[row % 4],
                markersize=4,
                label=label,
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [_thousands(length) for length in lengths])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("prompt tokens", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _thousands(tokens: int) -> str:
    return f"{tokens / 1000:.0f}k" if tokens >= 950 else str(tokens)


def _bars(points: Any) -> int:
    return sum(len(point["cases"]) for point in points)


def _draw_bars(axes: Axes, points: Any) -> None:
    """Each case's time over dense, and its share of FLOPs as a mark."""
    names, ratios, errors, theory = [], [], [], []
    for point in points:
        for case in point["cases"]:
            batch = f", batch {point['batch']}" if len(points) > 1 else ""
            names.append(case["case"] + batch)
            ratios.append(100 * case["ratio"])
            errors.append(50 * case["iqr_ratio"])
            theory.append(100 * case["theory"])
    rows = range(len(names))
    axes.barh(rows, ratios, xerr=errors, color=SKY, height=0.62, label="time, measured")
    axes.plot(theory, rows, "|", color=VERMILION, markersize=17, mew=2.5, label="FLOPs, theory")
    for row, ratio, error in zip(rows, ratios, errors, strict=True):
        axes.text(max(ratio, theory[row]) + error + 1.5, row, f"{ratio:.1f} %", va="center", size=9)
    axes.set_yticks(rows, names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*ratios, *theory, 100) * 1.12)
    axes.set_xlabel("% of dense", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
