"""fastav convert: a checkpoint in its authors' layout into a plain transformers folder."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.cli.console import JsonFlag, print_json
from fastav_plugin.cli.options.checkpoint import checkpoint_argument, find_model
from fastav_plugin.cli.progress import load_libraries, progress
from fastav_plugin.cli.tables.layout import print_facts
from fastav_plugin.display.units import size


def run(
    source: Annotated[
        str, checkpoint_argument("Folder as its authors publish it, or its hub id.", "SRC")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="Folder to write; must not be there yet.")
    ],
    json: JsonFlag = False,
) -> None:
    """Write a checkpoint that its authors publish in a layout of their own as plain safetensors.

    For the models of this package: VideoLLaMA2.1 with sound, video-SALMONN 2 and 2+.
    Their folders can be loaded as they are; a converted one loads faster, needs no torch files,
    and is what other tools expect. Weights keep their dtype. Needs as much memory as the model.

    Example: fastav convert ./VideoLLaMA2.1-7B-AV ./videollama2-plain
    """
    load_libraries()
    from fastav_plugin.model_overrides.own_models.conversion import STEPS, convert

    folder = find_model(source)
    with progress("convert", STEPS) as tick:
        found = convert(folder, target, tick)
    if json:
        print_json({"source": source, "target": str(target), **dataclasses.asdict(found)})
        return
    facts = {
        "model type": found.model_type,
        "parameters": f"{found.parameters:,}",
        "dtype": found.dtype,
        "size": size(found.bytes),
        "files": ", ".join(found.files),
    }
    print_facts(facts)
