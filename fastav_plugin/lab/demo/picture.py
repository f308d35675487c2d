"""The demonstration's pictures: what one method keeps of a clip, stage by stage."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastav_plugin.analysis.comparison import Outcome
from fastav_plugin.analysis.drawing.clip import Stage, draw_pruning, drop_stages
from fastav_plugin.analysis.media_tokens import Grid
from fastav_plugin.config import FastAVConfig
from fastav_plugin.media.inputs import Media


def draw_outcome(
    path: Path,
    outcome: Outcome,
    stages: Sequence[Stage],
    *,
    dense: Outcome,
    media: Media,
    title: str,
) -> None:
    """Draw the stages of one answer.

    Args:
        path: PNG to write.
        outcome: of a pruned answer.
        stages: of that answer.
        dense: of the same question.
        media: a video, of as many frames as the stages' grid or a multiple, and its sound.
        title: first line.
    """
    frames = media.frames
    assert frames is not None
    draw_pruning(
        path,
        frames[:: len(frames) // len(stages[0].video)],
        np.zeros(1, np.float32) if media.waveform is None else media.waveform,
        stages,
        seconds=len(frames) / media.fps,
        title=title,
        subtitle=(
            f"{outcome.method}: {100 * outcome.flops_ratio:.0f} % of the dense prefill's FLOPs. "
            "Bright: kept tokens. Dark or grey: dropped tokens."
        ),
        conclusion=conclusion(outcome, dense, stages),
    )


def conclusion(outcome: Outcome, dense: Outcome, stages: Sequence[Stage]) -> str:
    """What the last strip shows, and what that makes of the answer."""
    last = len(outcome.tokens_per_layer) - 1
    left, whole = stages[-1].count, stages[0].count
    verb = "stays" if outcome.answer == dense.answer else "becomes"
    answer = textwrap.shorten(outcome.answer, 40, placeholder=" ...")
    return (
        f"All that layer {last} sees of the clip: {left} of {whole} tokens. "
        f"The answer {verb} “{answer}”."
    )


def stages_of(outcome: Outcome, config: FastAVConfig, grid: Grid) -> list[Stage]:
    """The stages of any method: those of FastAV and DivPrune by name, others by layer."""
    if config.hooks is None and set(config.method.split("+")) <= {"fastav", "divprune"}:
        layers = len(outcome.tokens_per_layer)
        cut = layers // 2 if config.global_layer is None else config.global_layer
        return make_stages(outcome, cut, grid)
    return drop_stages(outcome, grid)


def make_stages(outcome: Outcome, cut: int, grid: Grid) -> list[Stage]:
    """The prompt, and every stage that drops something: entrance, global cut, fine cuts.

    Args:
        outcome: of a prompt with one video and one sound, with its report.
        cut: layer of the global cut.
        grid: frames, rows and columns of the video's tokens.
    """
    last = len(outcome.tokens_per_layer) - 1
    # If the global cut drops nothing, one of the fine cuts is shown between.
    middle = (cut + 1 + last) // 2
    named = [
        (0, "Entrance", "DivPrune, before layer 0"),
        (cut, "Global cut", f"FastAV, on entering layer {cut}"),
        (middle, "Fine cuts", f"FastAV, by layer {middle}"),
        (last, "Last layer", f"after fine cuts, in layer {last}"),
    ]
    counts = outcome.tokens_per_layer
    if counts[cut] < counts[cut - 1]:
        del named[2]
    return drop_stages(outcome, grid, named)
