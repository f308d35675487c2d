"""fastav generate: one question to a checkpoint under several methods."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fastav_plugin.cli.console import JsonFlag, note, print_json
from fastav_plugin.cli.options.checkpoint import Machine, checkpoint_option, find_model
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import Reading, existing_file
from fastav_plugin.cli.options.pruning import ConfigFile, Methods, Pruning, TargetFlops
from fastav_plugin.cli.progress import progress

METHODS = ("fastav",)


@grouped
def run(
    *,
    model: Annotated[str, checkpoint_option("Folder or hub id of a checkpoint.")],
    question: Annotated[str, typer.Option(help="What to ask about the media.")],
    video: Annotated[Path | None, existing_file("A clip, with or without sound.")] = None,
    audio: Annotated[
        Path | None, existing_file("A sound; goes before the sound of --video.")
    ] = None,
    image: Annotated[list[Path] | None, existing_file("A picture. May be repeated.")] = None,
    method: Methods = None,
    config: ConfigFile = None,
    pruning: Pruning,
    target_flops: TargetFlops = None,
    reading: Reading,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Timed prefills of each method.")] = 1,
    machine: Machine,
    json: JsonFlag = False,
) -> None:
    """Ask a checkpoint one question, dense and under each method.

    The method and its settings come from the options, then from --preset or --config, then from the
    fastav_config.json in the model's folder. A model that is not there is downloaded from the hub.

    Example: fastav generate --model ./Qwen2.5-Omni-7B --video clip.mp4
    --question "What is heard?" --method fastav --method fastav+divprune
    """
    from fastav_plugin.analysis.comparison import compare
    from fastav_plugin.cli.tables.demo import print_outcomes
    from fastav_plugin.evaluation.sample import move_inputs
    from fastav_plugin.media.inputs import prepare_files, prepare_prompt, read_media
    from fastav_plugin.model_overrides.own_models.configuration import read_config
    from fastav_plugin.model_overrides.own_models.registry import own_model

    described = read_config(model)
    settings = pruning.of(described, config)
    configs = settings.configs(described, method, METHODS)
    folder = find_model(model)
    files: dict[str, Any] = {
        "images": image or [],
        "video": video,
        "audio": audio,
        "sound": reading.sound,
        "allow_damaged": reading.allow_damaged,
    }
    own = own_model(described) is not None
    with progress("generate", 1 + (1 + len(configs)) * (1 + repeats)) as tick:
        # A file that cannot be read is an error before the model is loaded.
        processor, media = machine.load_processor(folder), None
        if not own:
            taken: dict[str, Any] = {"fps": reading.fps, "max_frames": reading.frames}
            media = read_media(**files, **taken, processor=processor)
        loaded = machine.load_model(folder)
        if media is None:
            inputs = prepare_files(processor, question, **files, frames=reading.frames)
        else:
            inputs = prepare_prompt(processor, media, question)
        if target_flops is not None:
            budget = {"target_flops": target_flops, "prompt": inputs}
            configs = settings.configs(loaded, method, METHODS, **budget)
        tick("model loaded")
        outcomes = compare(
            loaded,
            move_inputs(inputs, loaded),
            configs,
            decode=lambda ids: str(processor.decode(ids, skip_special_tokens=True)),
            max_new_tokens=max_new_tokens,
            repeats=repeats,
            tick=tick,
        )
    settings.say(method)
    if json:
        data = [outcome.to_dict() for outcome in outcomes]
        print_json({"model": str(model), "question": question, "outcomes": data})
        return
    layers = len(outcomes[0].tokens_per_layer)
    cut = next((c.global_layer for c in configs if c.global_layer is not None), layers // 2)
    print_outcomes(outcomes, cut, title=question)
    if target_flops is not None:
        for each in configs:
            note(each.describe())
    for outcome in outcomes:
        if outcome.reason is not None:
            note(f"{outcome.method}: nothing was cut, because {outcome.reason}.")
