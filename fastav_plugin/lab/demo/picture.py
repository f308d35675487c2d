"""The demonstration's pictures: what one method keeps of a clip, stage by stage."""

from pathlib import Path
from typing import Any

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.analysis.drawing.clip import Stage, draw_pruning, drop_stages
from fastav_plugin.config import FastAVConfig
from fastav_plugin.report import PruningReport

Grid = tuple[int, int, int]


def draw_outcome(
    path: Path,
    outcome: Outcome,
    *,
    title: str,
    cut: int,
    grid: Grid,
    frames: Any,
    waveform: Any,
    seconds: float,
) -> None:
    """Draw the stages of one answer.

    Args:
        path: PNG to write.
        outcome: of a pruned answer.
        title: first line.
        cut: layer of the global cut.
        grid: frames, rows and columns of the video's tokens.
        frames: uint8 [T, H, W, 3], T a multiple of the grid's frames.
        waveform: float32 [n].
        seconds: length of the clip.
    """
    assert outcome.report is not None
    draw_pruning(
        path,
        frames[:: len(frames) // grid[0]],
        waveform,
        make_stages(outcome.report, cut, grid),
        seconds=seconds,
        title=title,
        subtitle=subtitle(outcome.method, outcome.flops_ratio),
    )


def subtitle(method: str, flops_ratio: float) -> str:
    """The second line of a picture."""
    return (
        f"{method}: {100 * flops_ratio:.0f} % of the dense prefill's FLOPs. "
        "Colour: kept tokens. Grey: dropped tokens."
    )


def stages_of(report: PruningReport, config: FastAVConfig, grid: Grid) -> list[Stage]:
    """The stages of any method: those of FastAV and DivPrune by name, others by layer."""
    if config.hooks is None and set(config.method.split("+")) <= {"fastav", "divprune"}:
        layers = len(report.tokens_per_layer)
        cut = layers // 2 if config.global_layer is None else config.global_layer
        return make_stages(report, cut, grid)
    return drop_stages(report, grid)


def make_stages(report: PruningReport, cut: int, grid: Grid) -> list[Stage]:
    """The prompt, and every stage that drops something: entrance, global cut, fine cuts.

    Args:
        report: of a prompt with one video and one sound.
        cut: layer of the global cut.
        grid: frames, rows and columns of the video's tokens.
    """
    last = len(report.tokens_per_layer) - 1
    # If the global cut drops nothing, one of the fine cuts is shown between.
    middle = (cut + 1 + last) // 2
    named = [
        (0, "Entrance", "DivPrune, before layer 0"),
        (cut, "Global cut", f"FastAV, on entering layer {cut}"),
        (middle, "Fine cuts", f"FastAV, by layer {middle}"),
        (last, "Last layer", f"after fine cuts, in layer {last}"),
    ]
    counts = report.tokens_per_layer
    if counts[cut] < counts[cut - 1]:
        del named[2]
    return drop_stages(report, grid, named)
