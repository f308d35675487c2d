"""fastav inspect: what would be pruned in a model, or why it is refused."""

from __future__ import annotations

import dataclasses
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from fastav_plugin.cli.console import JsonFlag, note, print_json
from fastav_plugin.cli.options.checkpoint import checkpoint_argument, find_model
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.pruning import (
    DEFAULT_METHODS,
    ConfigFile,
    Methods,
    Pruning,
    TargetFlops,
)
from fastav_plugin.cli.progress import load_libraries
from fastav_plugin.cli.tables.layout import print_facts, print_table
from fastav_plugin.display.units import flops, percent
from fastav_plugin.errors import UnsupportedError

if TYPE_CHECKING:
    from fastav_plugin.analysis.inspection import Inspection

#: Kinds of tokens that a prompt is made of.
KINDS = ("text", "image", "video", "audio")

Count = Annotated[
    int | None,
    typer.Option(min=0, help="Tokens of this kind. Default: typical of the model's media."),
]


@grouped
def run(
    *,
    model: Annotated[str, checkpoint_argument("Folder or hub id of a checkpoint.")],
    method: Methods = None,
    config: ConfigFile = None,
    text: Annotated[int, typer.Option(min=0, help="Text tokens.")] = 50,
    image: Count = None,
    video: Count = None,
    audio: Count = None,
    frames: Annotated[int, typer.Option(min=0, help="Frames of the video.")] = 0,
    pruning: Pruning,
    target_flops: TargetFlops = None,
    json: JsonFlag = False,
) -> None:
    """Show what would be pruned in a model, from its config.json alone.

    No weights are read, nor downloaded where the model is given by its hub id. Exit status 2 with
    one line on stderr where the model is refused.

    Example: fastav inspect ./Qwen2.5-Omni-7B --text 50 --video 676 --audio 1496
    """
    load_libraries()
    from fastav_plugin.analysis.inspection import inspect_model

    sizes = {"text": text, "image": image, "video": video, "audio": audio, "frames": frames}
    counts = {name: size for name, size in sizes.items() if size is not None}
    folder = find_model(model, weights=False)
    try:
        settings = pruning.of(folder, config)
        methods = settings.methods(method, DEFAULT_METHODS)
        found = inspect_model(folder, methods, settings.keywords, counts, target_flops=target_flops)
    except UnsupportedError as error:
        if json:
            print_json({"model": model, "supported": False, "reason": str(error)})
        raise
    if json:
        print_json({"model": model, "supported": True, **dataclasses.asdict(found)})
    else:
        _print_facts(found)
    refused = [plan.refusal for plan in found.plans[1:] if plan.refusal is not None]
    if methods and len(refused) == len(methods):
        raise UnsupportedError(" ".join(dict.fromkeys(refused)))
    settings.say(method, target_flops)
    if not json:
        _print_plans(found)


def _print_facts(found: Inspection) -> None:
    sliding = sum(size is not None for size in found.window)
    prompt = dataclasses.asdict(found.prompt)
    kinds = [f"{prompt[kind]:,} {kind}" for kind in KINDS if prompt[kind]]
    frames = f" in {found.prompt.frames} frames" if found.prompt.frames else ""
    facts = {
        "model type": found.model_type,
        "class": found.architecture,
        "override": found.override,
        "layers": f"{found.num_layers}" + (f", {sliding} of them sliding" if sliding else ""),
        "layer sizes": f"hidden {found.cost.hidden_size}, queries {found.cost.query_size}, "
        f"keys {found.cost.kv_size}, MLP {found.cost.intermediate_size}",
        "placeholders": ", ".join(f"{name} {i}" for name, i in found.placeholders.items())
        or "none: give a TokenMap",
        "default rule": str(found.global_rule),
        "scores": "can be read" if found.scores else "cannot be read: no fine cut",
    }
    if found.deepstack_layers:
        facts["deepstack"] = f"layers 0..{found.deepstack_layers - 1}: no cut inside"
    options = ", ".join(f"--{kind}" for kind in KINDS if kind in found.placeholders or prompt[kind])
    facts["prompt"] = f"{', '.join(kinds)} tokens{frames} (choose with {options})"
    print_facts(facts)


def _print_plans(found: Inspection) -> None:
    plans = [plan for plan in found.plans if plan.refusal is None]
    columns, rows, total = ["layers"], [], ["all"]
    counts = list(zip(*(plan.tokens_per_layer for plan in plans), strict=True))  # of each layer
    for _, group in groupby(range(len(counts)), key=counts.__getitem__):
        layers = list(group)
        row = [f"{layers[0]}" if len(layers) == 1 else f"{layers[0]}-{layers[-1]}"]
        for plan in plans:
            row += [str(plan.tokens_per_layer[layers[0]]), flops(plan.macs_per_layer[layers[0]])]
        rows.append(row)
    for plan in plans:
        columns += [plan.method, "FLOPs"]
        spent = sum(plan.macs_per_layer) + plan.overhead_macs
        total += [percent(plan.flops_ratio), flops(spent)]
    print_table(
        columns, [*rows, total], title="\nTokens that each layer sees, and its FLOPs", together=2
    )
    for plan in found.plans:
        if plan.refusal is not None:
            note(f"{plan.method}: refused. {plan.refusal}")
        if plan.reason is not None:
            note(f"{plan.method}: nothing is cut, because {plan.reason}.")
        if plan.at_most:
            note(f"{plan.method}: what is kept varies from prompt to prompt; these are the most.")
        for caution in plan.cautions:
            note(f"{plan.method}: caution, {caution}")
        if "Chosen" in plan.settings:
            note(plan.settings)
