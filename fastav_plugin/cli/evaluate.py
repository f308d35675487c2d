"""fastav eval: accuracy against tokens, dense and pruned, on the testbed or a dataset's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fastav_plugin import __version__
from fastav_plugin.analysis.inspection import read_config
from fastav_plugin.cli import papers
from fastav_plugin.cli.console import note, print_json, progress
from fastav_plugin.cli.evaluation_plan import TESTBED, plan_dataset, plan_testbed
from fastav_plugin.cli.evaluation_settings import DEFAULT_METHODS, check_device, make_settings
from fastav_plugin.cli.generate import DTYPES, load
from fastav_plugin.cli.options import (
    AnswersFile,
    AudioKeepRatio,
    CalibrationOption,
    DataFormat,
    DropRatio,
    JsonFlag,
    KeepRatio,
    Match,
    MediaFolders,
    Methods,
    PromptTemplate,
    Ratios,
    Rule,
    Settings,
    Threads,
)
from fastav_plugin.cli.papers import PAPERS
from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.answers import answer_questions, saved_overrides
from fastav_plugin.evaluation.answers_file import AnswerLog, checkpoint_digest
from fastav_plugin.evaluation.bootstrap import LEVEL, RESAMPLES
from fastav_plugin.evaluation.formats.fields import Fault
from fastav_plugin.evaluation.records import Question
from fastav_plugin.lab.papers.tables import KEYS
from fastav_plugin.lab.testbed.evaluation_source import CLIPS, COMBINATIONS, QUESTIONS
from fastav_plugin.lab.testbed.model import MODEL_PATH
from fastav_plugin.media.inputs import SOUND
from fastav_plugin.model_overrides.own_models.registry import own_model

SUITES = (TESTBED, PAPERS)
#: Exit status of a run that had to leave rows out.
INCOMPLETE = 1
#: Rows left out that are named one by one; `--json` names all.
NAMED = 20


def run(
    suite: Annotated[str, typer.Option(help="testbed or papers; or give --data.")] = TESTBED,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A dataset's file, JSON or JSON lines."),
    ] = None,
    form: DataFormat = None,
    media: MediaFolders = None,
    answers: AnswersFile = None,
    prompt_template: PromptTemplate = None,
    match: Match = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of an answer. Default: the format's.")
    ] = None,
    fps: Annotated[float, typer.Option(min=0.01, help="As in generate.")] = 2.0,
    frames: Annotated[int | None, typer.Option(min=2, help="As in generate.")] = None,
    sound: Annotated[str, typer.Option(help="As in generate.")] = "separate",
    strict: Annotated[
        bool, typer.Option("--strict", help="Ask nothing unless every row can be asked.")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder of a checkpoint. Default: the testbed's, for the testbed.",
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
        int | None,
        typer.Option(
            min=1,
            help=f"Testbed: questions of each set, as many of every task. Default: {QUESTIONS}, "
            f"for papers {papers.QUESTIONS}.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many of them.")
    ] = None,
    combinations: Annotated[
        bool,
        typer.Option(
            "--combinations",
            help="Testbed: clips of held-out shape-colour-sound combinations instead.",
        ),
    ] = False,
    both: Annotated[
        bool, typer.Option("--all", help="Testbed: both sets, reported separately.")
    ] = False,
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
    table: Annotated[
        list[str] | None,
        typer.Option(help=f"Papers: {', '.join(KEYS)}. May be repeated. Default: all."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Papers: the tables, for a README.")
    ] = None,
    select: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            dir_okay=False,
            help="Papers: instead, choose settings for the accuracy targets, on other clips.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the confidence intervals. Questions are fixed.")
    ] = 0,
    dtype: Annotated[
        str | None,
        typer.Option(help="auto, float32, bfloat16 or float16. Default: float32 for the testbed."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    threads: Threads = 1,
    json: JsonFlag = False,
) -> None:
    """Measure accuracy, agreement with dense, and cost, on held-out questions or a dataset.

    Every answer comes from an unmodified greedy generate(). Settings come from the model folder's
    fastav_config.json, then from the options, then from --config. Intervals are 95 % bootstrap
    intervals over clips; one of no width means no error was seen, not that there is none. The
    prefill time includes the towers. One thread gives the same numbers on every run.

    Malformed rows and missing media of --data are named with their line and left out; the exit
    status is then 1.

    Example: fastav eval --suite testbed --questions 300 --method fastav --config
    'quarter={"method": "divprune", "visual_keep_ratio": 0.25, "audio_keep_ratio": 0.25}'
    --resume answers.jsonl

    Example: fastav eval --suite papers --resume papers.jsonl --markdown papers.md

    Example: fastav eval --data avqa-test.json --media videos --model ./Qwen2.5-Omni-7B
    --method fastav --method divprune --resume answers.jsonl
    """
    if suite not in SUITES:
        raise ConfigError(f"Unknown suite {suite!r}. Known: {', '.join(SUITES)}.")
    options: dict[str, Any] = {
        "name": form,
        "media": media or (),
        "answers": answers,
        "template": prompt_template,
        "rule": match,
        "max_new_tokens": max_new_tokens,
    }
    if data is None and (strict or frames or any(options.values())):
        raise ConfigError(
            "--format, --media, --answers, --prompt-template, --match, --max-new-tokens, --frames "
            "and --strict are about a file: give `--data`."
        )
    if data is not None and suite == TESTBED and (combinations or both):
        raise ConfigError("--combinations and --all are not about the file of `--data`.")
    folder = _folder(model, data)
    found = read_config(folder)
    ratios = Ratios(rule, drop_ratio, keep_ratio, audio_keep_ratio, settings or (), calibration)
    overrides = ratios.over(saved_overrides(folder))
    if suite == PAPERS:
        papers.check_options(data, method, config, combinations, both)
        check_device(device)
        torch.set_num_threads(threads or torch.get_num_threads())
        papers.run(
            folder,
            overrides,
            questions=questions,
            limit=limit,
            tables=table or (),
            resume=resume,
            markdown=markdown,
            select=select,
            seed=seed,
            device=device,
            dtype=dtype or "float32",
            as_json=json,
        )
        return
    if table or markdown or select:
        raise ConfigError("--table, --markdown and --select are about `--suite papers`.")
    names = method or (None if config else ratios.methods(None, DEFAULT_METHODS))
    configs = make_settings(found, names, config, overrides)
    dtype = dtype or ("float32" if data is None else "auto")
    for name, value, allowed in (("sound", sound, SOUND), ("dtype", dtype, DTYPES)):
        if value not in allowed:
            raise ConfigError(f"`--{name}` must be one of {', '.join(allowed)}, got {value!r}.")
    if data is None:
        held_out = (CLIPS, COMBINATIONS) if both else (COMBINATIONS if combinations else CLIPS,)
        plan = plan_testbed(held_out, questions or QUESTIONS, limit, seed)
    else:
        reading = {"fps": fps, "frames": frames, "sound": sound}
        own = own_model(found) is not None
        plan = plan_dataset(data, {**options, "limit": limit}, reading, own, seed)
    check_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    _report_faults(plan.faults, strict, plan.total)
    facts = {
        "version": __version__,
        "model": checkpoint_digest(folder),
        "device": device,
        "dtype": dtype,
        "settings": {name: value.to_dict() for name, value in configs.items()},
        **plan.facts,
    }
    unreadable: list[Fault] = []

    def leave_out(question: Question, reason: str) -> None:
        unreadable.append(Fault(plan.places[question.key], reason))

    with AnswerLog(resume, facts) as file, progress("eval", plan.total) as tick:
        loaded, processor = load(folder, dtype, device)
        source = plan.source(processor)
        records = answer_questions(
            loaded, processor, source, configs, file, tick, None if strict else leave_out
        )
    _report_faults(unreadable, strict, len(records))
    faults = [*plan.faults, *unreadable]
    result = {
        **facts,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "seed": seed, "over": "clips"},
        "left_out": [{"place": fault.place, "reason": fault.reason} for fault in faults],
        "sets": plan.measure(records),
    }
    if json:
        print_json(result)
    else:
        for part in result["sets"]:
            plan.show(part)
    if faults:
        note(f"{len(faults)} rows were left out.")
        raise typer.Exit(INCOMPLETE)


def _report_faults(faults: Sequence[Fault], strict: bool, left: int) -> None:
    """Name rows that cannot be asked; an error if that is all there is, or under --strict."""
    if not faults and left:
        return
    if strict or not left:
        first = f" The first: {faults[0]}" if faults else ""
        what = f"{len(faults)} rows cannot be asked." if left else "No row can be asked."
        raise ConfigError(f"{what}{first}")
    for fault in faults[:NAMED]:
        note(f"Left out, {fault}")
    if len(faults) > NAMED:
        note(f"... and {len(faults) - NAMED} more; --json names all.")


def _folder(model: Path | None, data: Path | None) -> Path:
    if model is None and data is not None:
        raise ConfigError("`--data` needs the folder of a checkpoint: give `--model`.")
    if model is None and not (MODEL_PATH / "config.json").exists():
        raise ConfigError(
            "The testbed's model is not part of this installation. Train one with "
            "`python -m fastav_plugin.lab.testbed.training.train --output runs` and give "
            "`--model runs/model`."
        )
    return model or MODEL_PATH
