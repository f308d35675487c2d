"""A picture of what each stage keeps of a clip: frames as mosaics, sound as a waveform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastav_plugin.analysis.drawing.page import Page
from fastav_plugin.display.palette import BLUE as KEPT
from fastav_plugin.display.palette import DROPPED, FAINT
from fastav_plugin.errors import UnsupportedError
from fastav_plugin.report import PruningReport
from fastav_plugin.tokens import Modality

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_FRAMES = 12
_MOST_STAGES = 5
#: Pixels of the longer edge of a drawn frame, about, and how far a smaller one is enlarged.
_EDGE, _ZOOM = 448, 4


@dataclass(frozen=True)
class Stage:
    """The media tokens that are left at one place of the model, which title and note tell.

    `video` is bool [F, H, W], one per patch of each shown frame; `audio` bool [A], one per token.
    """

    title: str
    note: str
    video: npt.NDArray[np.bool_]
    audio: npt.NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Media tokens."""
        return int(self.video.sum() + self.audio.sum())


def video_grid(processor: Any, inputs: Mapping[str, Any]) -> tuple[int, int, int]:
    """Frames, rows and columns of the tokens of a prompt's one video.

    Raises:
        UnsupportedError: a prompt without exactly one video, or one whose tokens lie in no grid.
    """
    sizes = inputs.get("video_grid_thw")
    if sizes is None or len(sizes) != 1:
        raise UnsupportedError(
            "Frames are drawn of prompts with one video whose processor says how its tokens lie "
            "(`video_grid_thw`), such as Qwen's. `fastav visualize layers` draws any prompt."
        )
    merge = processor.video_processor.merge_size
    time, height, width = sizes[0].tolist()
    return time, height // merge, width // merge


def drop_stages(
    report: PruningReport,
    grid: tuple[int, int, int],
    places: Sequence[tuple[int, str, str]] | None = None,
) -> list[Stage]:
    """The prompt with one video, and the places where it lost media tokens.

    Of many, the first and the last and some between are taken.

    Args:
        report: of the prompt.
        grid: frames, rows and columns of the video's tokens.
        places: layer, title and note of each place to look at; None for every layer.
    """
    if places is None:
        layers = range(len(report.tokens_per_layer))
        places = [(layer, f"Layer {layer}", "drops on entering it") for layer in layers]
    prompt = [
        report.token_map.mask(kind)[0].nonzero().squeeze(1).cpu().numpy()
        for kind in (Modality.VIDEO, Modality.AUDIO)
    ]
    video, audio = (np.ones(len(tokens), bool) for tokens in prompt)
    stages = [Stage("Prompt", "all that a dense layer sees", video.reshape(grid), audio)]
    for layer, title, note in places:
        kept = report.kept_positions(layer)
        video, audio = (np.isin(tokens, kept) for tokens in prompt)
        stage = Stage(title, note, video.reshape(grid), audio)
        if stage.count < stages[-1].count:
            stages.append(stage)
    return [stages[place] for place in _spread(len(stages), _MOST_STAGES)]


def draw_pruning(
    path: str | Path,
    frames: npt.NDArray[np.uint8],
    waveform: npt.NDArray[np.float32],
    stages: Sequence[Stage],
    *,
    seconds: float,
    title: str,
    subtitle: str,
) -> None:
    """Draw one strip per stage, in the order of the model; what it does not see is grey.

    `frames` are uint8 [F, H, W, 3], the pictures that `Stage.video` belongs to; `waveform` is
    float32 [n]; `seconds` is the length of the clip.
    """
    shown = _spread(len(frames), _MOST_FRAMES)
    label, side, gap, wave = 2.35, 1.0, 0.06, 0.5
    strip = len(shown) * side + (len(shown) - 1) * gap
    head, row_gap, foot = 1.0, 0.36, 0.62
    row = side * frames.shape[1] / frames.shape[2] + 0.06 + wave
    height = head + len(stages) * row + (len(stages) - 1) * row_gap + foot
    page = Page(path, height, width=label + strip + 0.3, dpi=110)
    page.text(0.3, 0.36, title, size=16, weight="bold")
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
    page.save()


def _label(page: Page, top: float, stage: Stage, first: Stage) -> None:
    page.text(0.3, top + 0.24, stage.title, size=12, weight="bold")
    page.text(0.3, top + 0.46, stage.note, size=8.5, color=FAINT)
    for line, (name, kept, whole) in enumerate(
        [("video", stage.video, first.video), ("audio", stage.audio, first.audio)]
    ):
        base = top + 0.86 + 0.42 * line
        page.text(0.3, base, f"{name}  {int(kept.sum())}", size=9.5)
        page.text(1.2, base, f"of {whole.size}", size=9.5, color=FAINT)
        bar = page.axes(0.3, base + 0.08, 1.55, 0.08)
        bar.barh([0], [1], height=1, color=DROPPED)
        # A silent clip has no audio tokens.
        bar.barh([0], [kept.mean() if kept.size else 0], height=1, color=KEPT)
        bar.set_xlim(0, 1)
        bar.axis("off")


def _mosaic(picture: npt.NDArray[np.uint8], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The picture at a size to look at, dropped patches faded to grey and all set apart."""
    step = -(-max(picture.shape) // _EDGE)
    picture = picture[::step, ::step]
    zoom = min(_ZOOM, max(1, _EDGE // max(picture.shape)))
    large = picture.repeat(zoom, axis=0).repeat(zoom, axis=1).astype(np.float64)
    grey = (large @ (0.299, 0.587, 0.114))[..., None]
    faded = 212 + 0.2 * (grey - 110)
    rows = np.arange(large.shape[0]) * kept.shape[0] // large.shape[0]
    columns = np.arange(large.shape[1]) * kept.shape[1] // large.shape[1]
    mask = kept[rows][:, columns][..., None]
    mosaic = np.where(mask, large, faded)
    line = max(1, large.shape[0] // 150)
    for axis, index in ((0, rows), (1, columns)):
        edges = np.flatnonzero(np.diff(index)) + 1
        for edge in edges:
            lines = [slice(None), slice(None)]
            lines[axis] = slice(edge - line, edge + line)
            mosaic[tuple(lines)] = 255
    return mosaic.clip(0, 255).astype(np.uint8)


def _wave(axes: Axes, waveform: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]) -> None:
    """The waveform's envelope, one bar per audio token, those kept in colour."""
    pieces = np.array_split(waveform, max(1, len(kept)))
    heights = np.array([np.abs(piece).max() if piece.size else 0.0 for piece in pieces])
    # The square root keeps soft sounds visible next to loud ones.
    heights = 0.06 + 0.94 * np.sqrt(heights / max(float(heights.max()), 1e-6))
    colours = [KEPT if one else DROPPED for one in kept]
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


def _spread(count: int, most: int) -> list[int]:
    """Which ones to show, spread evenly where there are too many."""
    return [round(place) for place in np.linspace(0, count - 1, min(count, most))]
