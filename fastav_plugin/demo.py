"""A real mp4 with sound through the real processor and a small model, dense and pruned."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastav_plugin.comparison import Outcome, compare
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import UnsupportedError
from fastav_plugin.media import REMEDY
from fastav_plugin.visualize import Stage, draw_pruning, make_stage

METHODS = ("fastav", "divprune", "fastav+divprune")
#: The clip has 8 time steps of 1 s and 25 audio tokens per second.
OVERRIDES = {
    "global_rule": {"video": "first 4 frames", "audio": "first 50 tokens"},
    "visual_keep_ratio": 0.5,
    "audio_keep_ratio": 0.5,
}
NOTICE = (
    "The model's weights are random: its answers mean nothing. Tokens, FLOPs, times and bytes are "
    "real."
)
CLIP_SEED = 10


@dataclass(frozen=True)
class Demo:
    """What the demonstration found.

    Attributes:
        question: what was asked.
        outcomes: dense first, then one per method.
        cut: layer of FastAV's global cut.
        files: what was written.
    """

    question: str
    outcomes: list[Outcome]
    cut: int
    files: list[Path]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "notice": NOTICE,
            "question": self.question,
            "global_cut_at_layer": self.cut,
            "overrides": OVERRIDES,
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
            "files": [path.name for path in self.files],
        }


def steps(repeats: int) -> int:
    """Pieces of work that `run_demo` reports."""
    return 3 + (1 + len(METHODS)) * (1 + repeats)


def run_demo(
    output: Path, *, repeats: int = 5, tick: Callable[[str], None] = lambda name: None
) -> Demo:
    """Write a clip, ask a question about it under every method, write report and picture.

    Args:
        output: folder for clip.mp4, report.json and pruning.png; made if missing.
        repeats: timed prefills of each method.
        tick: called after each piece of work with its name.

    Raises:
        UnsupportedError: PyAV or matplotlib is not installed.
    """
    from fastav_plugin.testbed.model import build_model, build_processor, prepare_inputs
    from fastav_plugin.testbed.world import SHAPES, sample_clip

    output.mkdir(parents=True, exist_ok=True)
    clip = sample_clip(CLIP_SEED)
    path = output / "clip.mp4"
    try:
        from fastav_plugin.testbed.media import read_clip, write_clip

        write_clip(path, clip)
        frames, waveform = read_clip(path)
    except ImportError as error:
        raise UnsupportedError(f"The demo writes and reads an mp4 file. {REMEDY}") from error
    tick("clip written and read back")
    question = f"Which colour is the {SHAPES[clip.things[0].shape]}?"
    model = build_model()
    processor: Any = build_processor()
    inputs = prepare_inputs(processor, frames, waveform, question)
    tick("model made")
    outcomes = compare(
        model,
        inputs,
        [FastAVConfig.for_model(model, method=name, **OVERRIDES) for name in METHODS],
        decode=lambda ids: str(processor.decode(ids, skip_special_tokens=True)),
        max_new_tokens=2,
        repeats=repeats,
        tick=tick,
    )
    merge = processor.video_processor.merge_size
    time, height, width = inputs["video_grid_thw"][0].tolist()
    grid = (time, height // merge, width // merge)
    cut = len(outcomes[0].tokens_per_layer) // 2
    picture = output / "pruning.png"
    shown = frames[:: len(frames) // time]
    draw(picture, outcomes, cut, grid, shown, waveform, float(clip.seconds))
    tick("picture drawn")
    report = output / "report.json"
    demo = Demo(question, outcomes, cut, [path, report, picture])
    report.write_text(json.dumps(demo.to_dict(), indent=2) + "\n", encoding="utf-8")
    return demo


def draw(
    path: Path,
    outcomes: Sequence[Outcome],
    cut: int,
    grid: tuple[int, int, int],
    frames: Any,
    waveform: Any,
    seconds: float,
) -> None:
    """Draw the last outcome's stages: the prompt, entrance, global cut and last layer.

    Args:
        path: PNG to write.
        outcomes: the last is drawn; all have reports but the first.
        cut: layer of the global cut.
        grid: frames, rows and columns of the video's tokens.
        frames: uint8 [frames of the grid, H, W, 3].
        waveform: float32 [n].
        seconds: length of the clip.
    """
    outcome = outcomes[-1]
    report = outcome.report
    assert report is not None
    last = len(outcome.tokens_per_layer) - 1
    sounds = outcomes[0].modality_per_layer["audio"][0]
    whole = Stage(
        "Prompt", "all that a dense layer sees", np.ones(grid, bool), np.ones(sounds, bool)
    )
    stages = [
        whole,
        make_stage(report, 0, "Entrance", "DivPrune, before layer 0", grid),
        make_stage(report, cut, "Global cut", f"FastAV, on entering layer {cut}", grid),
        make_stage(report, last, "Last layer", f"after fine cuts, in layer {last}", grid),
    ]
    draw_pruning(
        path,
        frames,
        waveform,
        stages,
        seconds=seconds,
        title=f"What {outcome.method} keeps of a clip",
        subtitle=(
            f"{outcome.flops_ratio:.0%} of the dense prefill's FLOPs. Colour: tokens that go on. "
            "Grey: tokens dropped. The weights are random, and so is what the fine cuts prefer."
        ),
    )
