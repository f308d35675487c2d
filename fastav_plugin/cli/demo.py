"""fastav demo: three clips, or one of the user's, dense and pruned answers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from fastav_plugin.analysis.inspection import read_config
from fastav_plugin.cli.console import note, print_json, progress
from fastav_plugin.cli.generate import load
from fastav_plugin.cli.options import (
    AudioKeepRatio,
    CalibrationOption,
    DropRatio,
    JsonFlag,
    KeepRatio,
    Methods,
    Ratios,
    Rule,
    Settings,
    Threads,
)
from fastav_plugin.cli.tables.demo import print_answers, print_costs, print_verdict
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.answers import saved_overrides
from fastav_plugin.lab.demo.own_clip import default_questions
from fastav_plugin.lab.demo.run import own_clip, run_demo, sample_clips, steps
from fastav_plugin.lab.testbed.model import MODEL_PATH

METHODS = ("fastav", "divprune", "fastav+divprune")


def run(
    video: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A clip of your own, such as my.mp4."),
    ] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(help="What to ask about --video; may be repeated. Default: what is there."),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder for report.json and one picture per clip.")
    ] = Path("demo"),
    model: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Default: the model that is shipped."),
    ] = None,
    method: Methods = None,
    rule: Rule = None,
    drop_ratio: DropRatio = None,
    keep_ratio: KeepRatio = None,
    audio_keep_ratio: AudioKeepRatio = None,
    settings: Settings = None,
    calibration: CalibrationOption = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed prefills of each answer.")] = 2,
    threads: Threads = 1,
    json: JsonFlag = False,
) -> None:
    """Ask a small trained Qwen2.5-Omni about clips, dense and pruned, right and wrong marked.

    Settings come from the model folder's fastav_config.json, then from the options. One thread is
    the quickest for a model this small.

    Example: fastav demo --video my.mp4 --question "Which colour is the circle?"
    """
    if question and video is None:
        raise ConfigError("`--question` is about a clip of your own. Give it: --video my.mp4")
    folder = find_model(model)
    ratios = Ratios(rule, drop_ratio, keep_ratio, audio_keep_ratio, settings or (), calibration)
    overrides = ratios.over(saved_overrides(folder))
    names = ratios.methods(method, METHODS)
    description = read_config(folder)
    configs = [FastAVConfig.for_model(description, method=name, **overrides) for name in names]
    if video is None:
        clips = sample_clips()
    else:
        clips = [own_clip(video, question or default_questions())]
    if threads is not None:
        torch.set_num_threads(threads)
    loaded, processor = load(folder, "float32")
    with progress("demo", steps(clips, len(configs), repeats)) as tick:
        found = run_demo(loaded, processor, clips, configs, output, repeats=repeats, tick=tick)
    if json:
        print_json({**found.to_dict(), "output": str(output)})
        return
    print_answers(found)
    print_costs(found)
    print_verdict(found)
    for text in found.notes:
        note(text)
    note("Written: " + ", ".join(str(path) for path in found.files))


def find_model(folder: Path | None) -> Path:
    """The given folder, or that of the shipped model.

    Raises:
        ConfigError: the installation has no model.
    """
    if folder is None and not (MODEL_PATH / "model.safetensors").exists():
        raise ConfigError(
            "The testbed's model is not part of this installation. Install the wheel or a "
            "checkout, or train one with "
            "`python -m fastav_plugin.lab.testbed.training.train --output runs` "
            "and give `--model runs/model`."
        )
    return folder or MODEL_PATH
