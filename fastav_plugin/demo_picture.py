"""The demonstration's pictures: what one method keeps of a clip, stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastav_plugin.comparison import Outcome
from fastav_plugin.report import PruningReport
from fastav_plugin.tokens import Modality
from fastav_plugin.visualize import Stage, draw_pruning, make_stage

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
        subtitle=(
            f"{outcome.method}: {100 * outcome.flops_ratio:.0f} % of the dense prefill's FLOPs. "
            "Colour: tokens that go on. Grey: tokens dropped."
        ),
    )


def make_stages(report: PruningReport, cut: int, grid: Grid) -> list[Stage]:
    """The prompt, and every stage that drops something: entrance, global cut, fine cuts.

    Args:
        report: of a prompt with one video and one sound.
        cut: layer of the global cut.
        grid: frames, rows and columns of the video's tokens.
    """
    last = len(report.tokens_per_layer) - 1
    # Of the fine cuts, one is shown on the way where the global cut drops nothing.
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
    sounds = int(report.token_map.mask(Modality.AUDIO)[0].sum())
    whole = Stage(
        "Prompt", "all that a dense layer sees", np.ones(grid, bool), np.ones(sounds, bool)
    )
    stages = [whole]
    for layer, name, about in named:
        stage = make_stage(report, layer, name, about, grid)
        if _alive(stage) < _alive(stages[-1]):
            stages.append(stage)
    return stages


def _alive(stage: Stage) -> int:
    return int(stage.video.sum() + stage.audio.sum())
