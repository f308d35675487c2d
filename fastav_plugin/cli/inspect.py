"""fastav inspect: what would be pruned in a model, or why it is refused."""

from __future__ import annotations

import dataclasses
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastav_plugin.cli.console import JsonFlag, note, print_json
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.pruning import DEFAULT_METHODS, Methods, Pruning, TargetFlops
from fastav_plugin.cli.tables.layout import print_facts, print_table
from fastav_plugin.display.units import flops, percent
from fastav_plugin.errors import UnsupportedError

if TYPE_CHECKING:
    from fastav_plugin.analysis.inspection import Inspection


@grouped
def run(
    *,
    model: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False, help="Folder of a checkpoint.", metavar="DIR"),
    ],
    method: Methods = None,
    text: Annotated[int, typer.Option(min=0, help="Text tokens.")] = 50,
    image: Annotated[int, typer.Option(min=0, help="Image tokens.")] = 0,
    video: Annotated[int, typer.Option(min=0, help="Video tokens.")] = 676,
    audio: Annotated[int, typer.Option(min=0, help="Audio tokens.")] = 1496,
    frames: Annotated[int, typer.Option(min=0, help="Frames of the video.")] = 0,
    pruning: Pruning,
    target_flops: TargetFlops = None,
    json: JsonFlag = False,
) -> None:
    """Show what would be pruned in a model, from its config.json alone.

    No weights are read. Exit status 2 with one line on stderr where the model is refused.

    Example: fastav inspect ./Qwen2.5-Omni-7B --text 50 --video 676 --audio 1496
    """
    from fastav_plugin.analysis.inspection import inspect_model
    from fastav_plugin.planning.dry_run import PromptSize

    prompt = PromptSize(text, image, video, audio, frames)
    methods = pruning.methods(method, DEFAULT_METHODS)
    try:
        fields = pruning.overrides()
        found = inspect_model(model, methods, fields, prompt, target_flops=target_flops)
    except UnsupportedError as error:
        if json:
            print_json({"model": str(model), "supported": False, "reason": str(error)})
        raise
    if json:
        plain = {**dataclasses.asdict(found), "prompt": dataclasses.asdict(prompt)}
        print_json({"model": str(model), "supported": True, **plain})
    else:
        _print(found)
    if methods and all(plan.refusal for plan in found.plans[1:]):
        raise UnsupportedError(found.plans[1].refusal or "")


def _print(found: Inspection) -> None:
    sliding = sum(size is not None for size in found.window)
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
    print_facts(facts)
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
        total += [percent(plan.flops_ratio), flops(sum(plan.macs_per_layer))]
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
        if "Chosen" in plan.settings:
            note(plan.settings)
