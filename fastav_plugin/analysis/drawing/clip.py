"""A picture of what each stage keeps of a clip: frames as mosaics, sound as a waveform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.analysis.drawing.page import Page
from fastav_plugin.analysis.media_tokens import Grid, positions_of, spread_evenly
from fastav_plugin.display.palette import DROPPED, FAINT, INK, MODALITIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_FRAMES = 12
_MOST_STAGES = 5
#: Pixels of the longer edge of a drawn frame, about, and how far a smaller one is enlarged.
_EDGE, _ZOOM = 448, 4
#: How much of its light a dropped patch keeps. Bright shapes stay dark, or they would stand out.
_DIMMED = 0.16


@dataclass(frozen=True)
class Stage:
    """The media tokens that are left at one place of the model, which title and note name.

    `video` is bool [F, H, W], one per patch of each frame of the grid; `audio` bool [A], one per
    token; `cost` says what the layers from here to the next stage cost.
    """

    title: str
    note: str
    video: npt.NDArray[np.bool_]
    audio: npt.NDArray[np.bool_]
    cost: str = ""

    @property
    def count(self) -> int:
        """Media tokens."""
        return int(self.video.sum() + self.audio.sum())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        counts = {"video": int(self.video.sum()), "audio": int(self.audio.sum())}
        return {"title": self.title, "note": self.note, **counts, "cost": self.cost}


def drop_stages(
    outcome: Outcome, grid: Grid, places: Sequence[tuple[int, str, str]] | None = None
) -> list[Stage]:
    """The prompt with one video, and the places where it lost media tokens.

    Of many, the first and the last and some between are taken.

    Args:
        outcome: of the prompt, with its report.
        grid: frames, rows and columns of the video's tokens.
        places: layer, title and note of each place to look at; None for every layer.
    """
    report = outcome.report
    assert report is not None
    if places is None:
        layers = range(len(report.tokens_per_layer))
        places = [(layer, f"Layer {layer}", "drops on entering it") for layer in layers]
    prompt = [positions_of(report.token_map, kind) for kind in ("video", "audio")]
    video, audio = (np.ones(len(tokens), bool) for tokens in prompt)
    first = Stage("Prompt", "all that a dense layer sees", video.reshape(grid), audio)
    found = [(0, first)]
    for layer, title, note in places:
        kept = report.kept_positions(layer)
        video, audio = (np.isin(tokens, kept) for tokens in prompt)
        stage = Stage(title, note, video.reshape(grid), audio)
        if stage.count < found[-1][1].count:
            found.append((layer, stage))
    chosen = [found[place] for place in spread_evenly(len(found), _MOST_STAGES)]
    ends = [layer for layer, _ in chosen[1:]] + [len(report.tokens_per_layer)]
    return [
        replace(stage, cost=_cost(outcome, layer, end)) if stage is not first else stage
        for (layer, stage), end in zip(chosen, ends, strict=True)
    ]


def _cost(outcome: Outcome, first: int, end: int) -> str:
    """What layers cost, as a share of what they cost in a dense prefill."""
    share = outcome.flops_ratio - outcome.overhead_ratio
    dense = outcome.macs / share / len(outcome.macs_per_layer)
    share = sum(outcome.macs_per_layer[first:end]) / (dense * (end - first))
    layers = f"layer {first}" if end - first == 1 else f"layers {first} to {end - 1}"
    return f"{layers}: {100 * share:.0f} % of dense FLOPs"


def draw_pruning(
    path: str | Path,
    frames: npt.NDArray[np.uint8],
    waveform: npt.NDArray[np.float32],
    stages: Sequence[Stage],
    *,
    seconds: float,
    title: str,
    subtitle: str,
    conclusion: str = "",
) -> None:
    """Draw one strip per stage, in the order of the model; what it does not see is dark.

    `frames` are uint8 [F, H, W, 3], the pictures that `Stage.video` belongs to; `waveform` is
    float32 [n]; `seconds` is the length of the clip; `conclusion` is said of the last strip.
    """
    shown = spread_evenly(len(frames), _MOST_FRAMES)
    label, side, gap, wave = 2.5, 1.0, 0.06, 0.5
    strip = len(shown) * side + (len(shown) - 1) * gap
    head, row_gap, foot = 1.0, 0.36, 1.1 if conclusion else 0.62
    row = side * frames.shape[1] / frames.shape[2] + 0.06 + wave
    height = head + len(stages) * row + (len(stages) - 1) * row_gap + foot
    page = Page(path, height, width=label + strip + 0.3, dpi=110)
    # A long one is smaller, so that it fits.
    page.text(0.3, 0.36, title, size=max(8, min(16, 1360 / max(1, len(title)))), weight="bold")
    page.text(0.3, 0.68, subtitle, size=10, color=FAINT)
    for index, stage in enumerate(stages):
        top = head + index * (row + row_gap)
        _label(page, top, stage, stages[0])
        for place, frame in enumerate(shown):
            axes = page.axes(label + place * (side + gap), top, side, row - wave - 0.06)
            axes.imshow(_mosaic(frames[frame], stage.video[frame]), interpolation="lanczos")
            axes.axis("off")
        _wave(page.axes(label, top + row - wave, strip, wave), waveform, stage.audio)
    _time_axis(page, label, height - foot + 0.1, strip, seconds)
    if conclusion:
        base = height - 0.2
        page.text(label + 0.3, base, conclusion, size=11, weight="bold", va="baseline")
        page.arrow((label + 0.15, base - 0.08), (label + 0.15, height - foot + 0.02))
    page.save()


def _label(page: Page, top: float, stage: Stage, first: Stage) -> None:
    page.text(0.3, top + 0.24, stage.title, size=12, weight="bold")
    page.text(0.3, top + 0.46, stage.note, size=8.5, color=FAINT)
    page.text(0.3, top + 0.64, stage.cost, size=8.5, color=INK)
    for line, (name, kept, whole) in enumerate(
        [("video", stage.video, first.video), ("audio", stage.audio, first.audio)]
    ):
        base = top + 0.96 + 0.38 * line
        page.text(0.3, base, f"{name}  {int(kept.sum())}", size=9.5)
        page.text(1.2, base, f"of {whole.size}", size=9.5, color=FAINT)
        bar = page.axes(0.3, base + 0.08, 1.55, 0.08)
        bar.barh([0], [1], height=1, color=DROPPED)
        # A silent clip has no audio tokens.
        bar.barh([0], [kept.mean() if kept.size else 0], height=1, color=MODALITIES[name])
        bar.set_xlim(0, 1)
        bar.axis("off")


def _mosaic(picture: npt.NDArray[np.uint8], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The picture at a size to look at, dropped patches dark and those that are kept outlined."""
    step = -(-max(picture.shape) // _EDGE)
    picture = picture[::step, ::step]
    zoom = min(_ZOOM, max(1, _EDGE // max(picture.shape)))
    large = picture.repeat(zoom, axis=0).repeat(zoom, axis=1).astype(np.float64)
    rows = np.arange(large.shape[0]) * kept.shape[0] // large.shape[0]
    columns = np.arange(large.shape[1]) * kept.shape[1] // large.shape[1]
    mask = kept[rows][:, columns]
    mosaic = np.where(mask[..., None], large, _DIMMED * large)
    line = max(1, large.shape[0] // 150)
    edge = _edges(rows, line)[:, None] | _edges(columns, line)
    mosaic[edge] = 255 if kept.all() else 70
    if not kept.all():
        colour = MODALITIES["video"]
        mosaic[edge & mask] = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return mosaic.clip(0, 255).astype(np.uint8)


def _edges(index: npt.NDArray[np.int64], line: int) -> npt.NDArray[np.bool_]:
    """Pixels so near to where one patch ends and the next begins."""
    found = np.zeros(len(index), bool)
    for edge in np.flatnonzero(np.diff(index)) + 1:
        found[edge - line : edge + line] = True
    return found


def _wave(axes: Axes, waveform: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]) -> None:
    """The waveform's envelope, one bar per audio token, those kept in colour."""
    pieces = np.array_split(waveform, max(1, len(kept)))
    heights = np.array([np.abs(piece).max() if piece.size else 0.0 for piece in pieces])
    # The square root keeps soft sounds visible next to loud ones.
    heights = 0.06 + 0.94 * np.sqrt(heights / max(float(heights.max()), 1e-6))
    colours = [MODALITIES["audio"] if one else DROPPED for one in kept]
    places = np.arange(len(kept)) + 0.5
    axes.bar(places, 2 * heights, bottom=-heights, width=0.72, color=colours, linewidth=0)
    axes.set_xlim(0, max(1, len(kept)))
    axes.set_ylim(-1.05, 1.05)
    axes.axis("off")


def _time_axis(page: Page, left: float, top: float, width: float, seconds: float) -> None:
    axes = page.axes(left, top, width, 0.01)
    axes.set_xlim(0, seconds)
    axes.set_yticks([])
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(FAINT)
    step = max(1, round(seconds / 8))
    axes.set_xticks(np.arange(0, seconds + 0.01, step))
    axes.tick_params(colors=FAINT, labelsize=8, length=3)
    axes.set_xlabel("seconds", color=FAINT, size=8.5)
