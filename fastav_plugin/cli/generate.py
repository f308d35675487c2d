"""fastav generate: one question to a checkpoint under several methods."""

from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.cli.console import JsonFlag, make_room, note, print_json
from fastav_plugin.cli.options.checkpoint import Machine, checkpoint_option, find_model
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import Reading, existing_file
from fastav_plugin.cli.options.pruning import ConfigFile, Methods, Pruning, TargetFlops
from fastav_plugin.cli.progress import load_libraries, progress
from fastav_plugin.errors import ConfigError

METHODS = ("fastav",)


@grouped
def run(
    *,
    model: Annotated[str, checkpoint_option("Folder or hub id of a checkpoint.")],
    question: Annotated[str, typer.Option(help="What to ask about the media.")],
    video: Annotated[
        Path | None,
        existing_file(
            "A clip. Its own sound is heard too, unless --audio or --sound none is given."
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        existing_file(
            "A sound, or a video for its sound alone. Used in place of the sound of --video."
        ),
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
    html: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            metavar="FILE.html",
            help="Write a page that steps through the layers, as `fastav visualize explore` does.",
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Ask a checkpoint one question, dense and under each method.

    The method and its settings come from the options, then from --preset or --config, then from the
    fastav_config.json in the model's folder. A model that is not there is downloaded from the hub.

    Example: fastav generate --model ./Qwen2.5-Omni-7B --video clip.mp4
    --question "What is heard?" --method fastav --method fastav+divprune
    """
    load_libraries()
    from fastav_plugin.analysis.explore.page import check_page, write_page
    from fastav_plugin.cli.scene import Scene
    from fastav_plugin.cli.tables.demo import print_outcomes
    from fastav_plugin.model_overrides.own_models.configuration import read_config

    if html is not None:
        check_page(html)
        make_room(html)
    if not question.strip():
        raise ConfigError("`--question` is empty. Ask something about the media.")
    described = read_config(model)
    settings = pruning.of(described, config)
    configs = settings.configs(described, method, METHODS)
    folder = find_model(model)
    with progress("generate", 1 + (1 + len(configs)) * (1 + repeats)) as tick:
        scene = Scene.load(
            folder,
            question,
            images=image or [],
            video=video,
            audio=audio,
            reading=reading,
            machine=machine,
        )
        if target_flops is not None:
            budget = {"target_flops": target_flops, "prompt": scene.inputs}
            configs = settings.configs(scene.model, method, METHODS, **budget)
        tick("model loaded")
        outcomes = scene.compare(configs, tick, max_new_tokens=max_new_tokens, repeats=repeats)
        if html is not None:
            write_page(
                html,
                outcomes,
                question=question,
                model=str(model),
                processor=scene.processor,
                inputs=scene.inputs,
                media=scene.media,
            )
    settings.say(method, target_flops)
    if html is not None:
        note(f"Written: {html}")
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
