"""fastav eval: accuracy of the testbed's model against tokens, dense and pruned."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fastav_plugin import __version__
from fastav_plugin.bootstrap import LEVEL, RESAMPLES
from fastav_plugin.cli.console import print_json, progress
from fastav_plugin.cli.evaluation_table import print_summary
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
from fastav_plugin.comparison import DENSE
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluate import (
    CLIPS,
    COMBINATIONS,
    QUESTIONS,
    SUITES,
    answer_questions,
    questions_of,
    saved_overrides,
)
from fastav_plugin.evaluation_file import EvaluationFile, model_digest
from fastav_plugin.evaluation_summary import summarise
from fastav_plugin.inspection import read_config
from fastav_plugin.testbed.model import MODEL_PATH

DEFAULT_METHODS = ("fastav", "divprune", "fastav+divprune")


def run(
    suite: Annotated[str, typer.Option(help="testbed.")] = "testbed",
    model: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Folder of a Qwen2.5-Omni. Default: the testbed's."
        ),
    ] = None,
    method: Methods = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            metavar="NAME=JSON",
            help="A setting with a name of its own: fields of FastAVConfig as JSON, or a file of "
            "them. May be repeated, to compare one method at several ratios.",
        ),
    ] = None,
    rule: Rule = None,
    drop_ratio: DropRatio = None,
    keep_ratio: KeepRatio = None,
    audio_keep_ratio: AudioKeepRatio = None,
    settings: Settings = None,
    calibration: CalibrationOption = None,
    questions: Annotated[
        int, typer.Option(min=1, help="Questions of each set, as many of every task.")
    ] = QUESTIONS,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many of them.")
    ] = None,
    combinations: Annotated[
        bool,
        typer.Option(
            "--combinations", help="Clips of held-out shape-colour-sound combinations instead."
        ),
    ] = False,
    both: Annotated[bool, typer.Option("--all", help="Both sets, reported separately.")] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            "--output",
            metavar="FILE.jsonl",
            dir_okay=False,
            help="Write every answer to this file, and go on from those it already holds.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the confidence intervals. Questions are fixed.")
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    threads: Threads = 1,
    json: JsonFlag = False,
) -> None:
    """Measure accuracy, agreement with dense, and cost over held-out questions.

    Every clip is written as an mp4 file, read back and put through the processor; every answer is
    the first token of an unmodified generate(). Settings come from the model folder's
    fastav_config.json, then from the options, then from --config. Intervals are 95 % bootstrap
    intervals over clips; one of no width means no error was seen, not that there is none. The
    prefill time includes the towers. One thread gives the same numbers on every run.

    Example: fastav eval --suite testbed --questions 300 --method fastav --config
    'quarter={"method": "divprune", "visual_keep_ratio": 0.25, "audio_keep_ratio": 0.25}'
    --resume answers.jsonl
    """
    if suite not in SUITES:
        raise ConfigError(f"Unknown suite {suite!r}. Known: {', '.join(SUITES)}.")
    folder = _folder(model)
    ratios = Ratios(rule, drop_ratio, keep_ratio, audio_keep_ratio, settings or (), calibration)
    overrides = ratios.over(saved_overrides(folder))
    names = method or (None if config else ratios.methods(None, DEFAULT_METHODS))
    configs = make_settings(read_config(folder), names, config, overrides)
    held_out = (CLIPS, COMBINATIONS) if both else (COMBINATIONS if combinations else CLIPS,)
    asked = questions_of(held_out, questions, limit)
    _check_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    facts = {
        "suite": suite,
        "version": __version__,
        "model": model_digest(folder),
        "device": device,
        "settings": {name: value.to_dict() for name, value in configs.items()},
    }
    with EvaluationFile(resume, facts) as file, progress("eval", len(asked)) as tick:
        loaded, processor = load(folder, "float32", device)
        records = answer_questions(loaded, processor, asked, configs, file, tick)
    found = {
        **facts,
        "dtype": "float32",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "seed": seed, "over": "clips"},
    }
    sets = [_measured(name, records, seed) for name in held_out]
    if json:
        print_json({**found, "sets": sets})
        return
    for part in sets:
        print_summary(part)


def make_settings(
    model: Any,
    methods: Sequence[str] | None = None,
    named: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, FastAVConfig]:
    """The settings to compare, by name; without any, the three methods.

    Args:
        model: the model or its configuration.
        methods: methods under the common overrides, named after themselves.
        named: NAME=JSON, or NAME=FILE with JSON.
        overrides: fields of FastAVConfig for all of them.

    Raises:
        ConfigError: a name twice, or "dense", or no JSON object.
    """
    wanted: list[tuple[str, dict[str, Any]]] = []
    for method in methods or (() if named else DEFAULT_METHODS):
        if method != DENSE:
            wanted.append((method, {"method": method}))
    for text in named or ():
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"`--config` takes NAME=JSON, got {text!r}.")
        wanted.append((name.strip(), _fields(value.strip())))
    names = [name for name, _ in wanted]
    for name in names:
        if name == DENSE or names.count(name) > 1:
            raise ConfigError(
                f"Two settings are named {name!r}. Give every `--config` a name of its own."
            )
    return {
        name: FastAVConfig.for_model(model, **{**(overrides or {}), **fields})
        for name, fields in wanted
    }


def _fields(text: str) -> dict[str, Any]:
    if not text.startswith("{"):
        return FastAVConfig.from_pretrained(text).to_dict()
    try:
        found = json_format.loads(text)
    except ValueError as error:
        raise ConfigError(f"`--config` holds no JSON object: {error}. Got {text!r}.") from error
    return dict(found)


def _folder(model: Path | None) -> Path:
    if model is None and not (MODEL_PATH / "config.json").exists():
        raise ConfigError(
            "The testbed's model is not part of this installation. Train one with "
            "`python -m fastav_plugin.testbed.train --output runs` and give `--model runs/model`."
        )
    return model or MODEL_PATH


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        first = str(error).split("\n")[0]
        raise ConfigError(f"`--device` {name!r} cannot be used here: {first}") from error


def _measured(held_out: str, records: Sequence[Any], seed: int) -> dict[str, Any]:
    own = [record for record in records if record.held_out == held_out]
    return {
        "held_out": held_out,
        "questions": len(own),
        "clips": len({record.seed for record in own}),
        "rows": summarise(own, seed=seed),
    }
