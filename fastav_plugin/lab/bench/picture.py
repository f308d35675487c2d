"""Pictures of what `fastav bench` measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastav_plugin.analysis.drawing.page import MARKERS, WIDTH, Page, plain
from fastav_plugin.display.palette import BLACK, FAINT, INK, SERIES, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Dense comes first.
_COLOURS = (BLACK, *(colour for colour in SERIES if colour != BLACK))
_LINES = ("-", "--", ":", "-.")
#: Lengths that lie nearer on the axis have one label between them.
_APART = 1.5


def draw_bench(path: str | Path, found: Mapping[str, Any]) -> None:
    """Draw curves over prompt length where several were measured, bars against theory otherwise.

    Args:
        path: .png or .svg file to write.
        found: what `bench.describe` returns.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    points, machine = found["points"], found["machine"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads"
    runs = found["repeats"]
    about = f"{found['dtype']}, {where}; {'one run' if runs == 1 else f'medians of {runs} runs'}"
    if len({point["prompt"]["tokens"] for point in points}) > 1:
        _draw_lengths(path, points, f"{found['shape']} by length of the prompt", about)
    else:
        _draw_shares(path, points, f"{found['shape']} against dense", about)


def _draw_lengths(path: str | Path, points: Any, title: str, about: str) -> None:
    """One panel per quantity, two beside each other, all over the length of the prompt."""
    panels = _panels(points)
    left, gap, right, head, tall, between, foot = 0.62, 0.72, 0.2, 1.2, 2.0, 0.62, 0.5
    lines = -(-len(panels) // 2)
    page = Page(path, head + lines * (tall + between) - between + foot)
    page.heading(title, f"{about} of each case and length; both axes are logarithmic.")
    wide = (WIDTH - left - gap - right) / 2
    for index, (name, value) in enumerate(panels.items()):
        line, place = divmod(index, 2)
        axes = page.axes(left + place * (wide + gap), head + line * (tall + between), wide, tall)
        _draw_curves(axes, points, value)
        axes.set_title(name, size=9.5, color=INK, pad=5, loc="left")
        if index >= len(panels) - 2:
            axes.set_xlabel("prompt tokens", size=8.5, color=FAINT)
        if index == 0:
            page.legend(axes, 0.15, 0.82)
    page.save()


def _panels(points: Any) -> dict[str, Callable[[Any], float]]:
    first = points[0]["cases"][0]
    panels: dict[str, Callable[[Any], float]] = {
        "Time to the first token, s": lambda case: float(case["median_seconds"])
    }
    if first["decode_seconds"] is not None:
        panels["Time of a later token, s"] = lambda case: float(case["decode_seconds"])
    if first["call_bytes"] is not None:
        panels["Peak memory of the call, MB"] = lambda case: float(case["call_bytes"]) / 1e6
    panels["KV cache, MB"] = lambda case: float(case["kv_bytes"]) / 1e6
    return panels


def _draw_curves(axes: Axes, points: Any, value: Callable[[Any], float]) -> None:
    from matplotlib.ticker import LogLocator

    plain(axes, grid="both")
    batches = sorted({point["batch"] for point in points})
    for row, batch in enumerate(batches):
        own = [point for point in points if point["batch"] == batch]
        lengths = [point["prompt"]["tokens"] for point in own]
        for index, case in enumerate(own[0]["cases"]):
            axes.plot(
                lengths,
                [value(point["cases"][index]) for point in own],
                color=_COLOURS[index % len(_COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                linestyle=_LINES[row % len(_LINES)],
                markersize=4.5,
                linewidth=1.6,
                label=case["case"] + (f", batch {batch}" if len(batches) > 1 else ""),
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, _tick_labels(lengths))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.minorticks_off()


def _tick_labels(lengths: list[int]) -> list[str]:
    """A label for each length, but none for one so near to the last labelled that both touch."""
    labels, last = [], 0.0
    for length in lengths:
        near = length < _APART * last
        labels.append("" if near else _thousands(length))
        last = last if near else length
    return labels


def _thousands(tokens: int) -> str:
    return f"{tokens / 1000:.0f}k" if tokens >= 950 else str(tokens)


def _draw_shares(path: str | Path, points: Any, title: str, about: str) -> None:
    """Each case's time as a share of dense, and its share of FLOPs as a mark."""
    cases = [
        (case["case"] + (f", batch {point['batch']}" if len(points) > 1 else ""), case)
        for point in points
        for case in point["cases"]
    ]
    left, right, head, foot = 0.3 + 0.072 * max(len(name) for name, _ in cases), 0.3, 1.05, 0.5
    page = Page(path, head + 0.34 * len(cases) + foot)
    page.heading(title, f"{about}. Time to the first token; lines are interquartile ranges.")
    axes = page.axes(left, head, WIDTH - left - right, 0.34 * len(cases))
    plain(axes, grid="x")
    rows = range(len(cases))
    ratios = [100 * case["ratio"] for _, case in cases]
    errors = [50 * case["iqr_ratio"] for _, case in cases]
    theory = [100 * case["theory"] for _, case in cases]
    axes.barh(rows, ratios, xerr=errors, color=SKY, height=0.62, label="time, measured")
    axes.plot(theory, rows, "|", color=VERMILION, markersize=15, mew=2.5, label="FLOPs, in theory")
    for row in rows:
        place = max(ratios[row], theory[row]) + errors[row] + 1.5
        axes.text(place, row, f"{ratios[row]:.1f} %", va="center", size=8.5, color=INK)
    axes.set_yticks(rows, [name for name, _ in cases], size=9, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*ratios, *theory, 100) * 1.12)
    axes.set_xlabel("% of dense", size=8.5, color=FAINT)
    page.legend(axes, 0.15, 0.78)
    page.save()
