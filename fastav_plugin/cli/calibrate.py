"""fastav calibrate: find the cheapest setting that stays near dense, on the user's own media."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.calibration.plan import READ, CalibrationPlan
from fastav_plugin.cli.console import JsonFlag, interruptible, make_room, print_json
from fastav_plugin.cli.options.checkpoint import Machine, ModelFolder, find_model
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import MediaFolders, Reading
from fastav_plugin.cli.options.pruning import ConfigFile, Ratios
from fastav_plugin.cli.progress import load_libraries, progress
from fastav_plugin.cli.tables.left_out import LeftOut
from fastav_plugin.errors import ConfigError

_MACHINE = Machine(threads=1)


@grouped
def run(
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", dir_okay=False, metavar="FILE.safetensors", help="File to write."
        ),
    ],
    model: ModelFolder = None,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help='JSONL of {"video", "audio", "image", "question"}, or a folder of clips with '
            "questions.jsonl, or with questions.txt: each line asked about each clip. Default, for "
            "the bundled model alone: clips made for it.",
        ),
    ] = None,
    media: MediaFolders = None,
    method: Annotated[
        str, typer.Option("--method", "-m", help="fastav, or fastav+divprune.")
    ] = CalibrationPlan.method,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A field of FastAVConfig that is not searched: 'visual_keep_ratio=0.5'. May be "
            "repeated.",
        ),
    ] = None,
    config: ConfigFile = None,
    max_kl: Annotated[
        float,
        typer.Option(
            min=0,
            help="Highest mean KL(dense || pruned), in nats, for the upper end of its 95 % "
            "interval.",
        ),
    ] = CalibrationPlan.max_kl,
    margin: Annotated[
        float,
        typer.Option(
            help="Share of --max-kl that is held back where settings are chosen, in [0, 1). 0: no "
            "stricter setting must pass as well, and the mean decides where the choice is checked."
        ),
    ] = CalibrationPlan.margin,
    samples: Annotated[
        int, typer.Option(min=1, help="Samples drawn: for rules, choice and check.")
    ] = CalibrationPlan.samples,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = CalibrationPlan.seed,
    tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of the dense answer to compare.")
    ] = CalibrationPlan.tokens,
    alpha: Annotated[
        float, typer.Option(help="The rollout's weight of attention, in (0, 1].")
    ] = CalibrationPlan.alpha,
    read: Annotated[
        str, typer.Option(help=f"What rules are made from: {' or '.join(READ)} of the rollout.")
    ] = CalibrationPlan.read,
    threshold: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of the rollout's mass that a positional rule keeps. May be repeated. "
            "Default: no positional rules."
        ),
    ] = None,
    layer: Annotated[
        list[int] | None,
        typer.Option(
            help="Layer of the global cut. May be repeated. Default: 3/8, 4/8, 5/8 and 6/8 of the "
            "depth and the layer from which on the profile is stable."
        ),
    ] = None,
    drop_ratio: Annotated[
        list[float] | None,
        typer.Option(
            help="FastAV's P. May be repeated. Default: "
            f"{', '.join(f'{value:g}' for value in CalibrationPlan.drop_ratios)}."
        ),
    ] = None,
    stable: Annotated[
        float, typer.Option(help="Total variation distance below which a layer changes nothing.")
    ] = CalibrationPlan.stable,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Measure every setting on every sample, which takes several times as long.",
        ),
    ] = False,
    reading: Reading,
    machine: Machine = _MACHINE,
    json: JsonFlag = False,
) -> None:
    """Find layer and drop ratio for a model on your own media, and what they cost.

    A third of the samples are run dense once for their attention rollout; another third measure
    every setting against dense, to find the cheapest whose KL stays within --max-kl, less a
    --margin, and that of a stricter one, too: few samples miss rare failures. All others check it.
    If it fails there, the next cheapest is tried. What passes goes into the file with what the
    check measured, for FastAVConfig(calibration=FILE) and for --calibration. If n prompts check it,
    a failure in fewer than about 3 / n of all prompts may be missed. Calibrate on other media than
    you test with.

    Rules of positions are tried with --threshold only: what is asked for may lie behind them in
    prompts that are not among the samples.

    With the defaults it takes as long as some 700 prefills of your prompts and answers of
    --tokens: 12 minutes if one takes a second. Fewer --threshold, --layer and --drop-ratio mean
    fewer settings, --full all of them on every sample. A run that was interrupted goes on where it
    stopped when it is started again.

    Invalid records, and missing or damaged media, of --data are named with their line and left out;
    the exit status is then 1.

    Example: fastav calibrate --model ./Qwen2.5-Omni-7B --data clips.jsonl --max-kl 0.02
    --output qwen.safetensors
    """
    load_libraries()
    from fastav_plugin.calibration.data import (
        data_file,
        file_source,
        leave_out_unreadable,
        read_data,
    )
    from fastav_plugin.calibration.fidelity import measure_fidelity
    from fastav_plugin.calibration.run import (
        calibrate,
        cut_range,
        partial_path,
        step_weights,
        steps,
    )
    from fastav_plugin.cli.tables.calibration import print_calibration
    from fastav_plugin.evaluation.sample import SampleInputs
    from fastav_plugin.lab.testbed.calibration_source import generated_source
    from fastav_plugin.model_overrides.own_models.registry import own_model

    plan = CalibrationPlan(
        method=method,
        samples=samples,
        seed=seed,
        alpha=alpha,
        read=read,
        thresholds=tuple(threshold or CalibrationPlan.thresholds),
        layers=None if layer is None else tuple(layer),
        drop_ratios=tuple(drop_ratio or CalibrationPlan.drop_ratios),
        stable=stable,
        max_kl=max_kl,
        margin=margin,
        tokens=tokens,
        full=full,
        overrides=Ratios(settings=settings).overrides(),
    )
    if data is None and model is not None:
        raise ConfigError("Give questions about your media with `--data` to calibrate a model.")
    make_room(output)
    found, faults = ([], []) if data is None else read_data(data, media or ())
    folder = find_model(model)
    start = Ratios(settings=settings).of(folder, config)
    plan = plan.starting_from(start.base.fields)
    with progress("loading the model", None):
        loaded, processor = machine.load(folder)
    cut_range(loaded, plan)
    start.say()
    own = own_model(loaded.config) is not None
    name = "" if data is None else data_file(data).name
    prepare = SampleInputs(processor, own=own, **reading.to_dict(), data=name)
    source = (
        generated_source(prepare, samples, seed)
        if data is None
        else file_source(found, prepare, reading.facts())
    )
    left_out = LeftOut(file=name)
    if data is not None:
        left_out.add(faults, len(found))
        with progress("media", steps(plan, source), "samples") as tick:
            source, unreadable = leave_out_unreadable(source, plan.samples, plan.seed, tick)
        left_out.add(unreadable, len(source.media))
    with (
        interruptible(lambda: _kept(partial_path(output))),
        progress("calibrate", steps(plan, source), "samples") as tick,
    ):
        weighed = False

        def part(done: int, of: int) -> None:
            nonlocal weighed
            if not weighed:  # the number of settings follows from the rollout
                tick.weigh(step_weights(plan, source, of))
                weighed = True
            tick.part(done, of, "settings")

        measure = partial(measure_fidelity, part=part)
        calibration = calibrate(loaded, source, plan, output, tick, measure)
    if json:
        facts = {name: value for name, value in calibration.facts.items() if name != "searched"}
        facts["model"] = {k: v for k, v in facts["model"].items() if k != "weights"}
        print_json({"file": str(output), "left_out": left_out.to_json(), **facts})
    else:
        print_calibration(calibration)
    left_out.end()


def _kept(measured: Path) -> str:
    """What an interrupted run leaves."""
    if not measured.exists():
        return "Nothing was written."
    return f"{measured} is kept: the same command goes on from it."
