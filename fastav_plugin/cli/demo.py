"""fastav demo: three clips, or one of the user's, dense and pruned answers side by side."""

from pathlib import Path
from typing import Annotated

import typer

from fastav_plugin.cli.console import JsonFlag, note, print_json
from fastav_plugin.cli.options.checkpoint import Machine, ModelFolder, Threads, find_model
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import AllowDamaged, existing_file
from fastav_plugin.cli.options.pruning import DEFAULT_METHODS, ConfigFile, Methods, Pruning
from fastav_plugin.cli.progress import load_libraries, progress


@grouped
def run(
    *,
    video: Annotated[Path | None, existing_file("A clip of your own, such as my.mp4.")] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(
            help="What to ask about --video, or about each shipped clip; may be repeated. "
            "Default: what is there."
        ),
    ] = None,
    allow_damaged: AllowDamaged = False,
    output: Annotated[
        Path,
        typer.Option(file_okay=False, help="Folder for report.json and one picture per clip."),
    ] = Path("demo"),
    model: ModelFolder = None,
    method: Methods = None,
    config: ConfigFile = None,
    pruning: Pruning,
    repeats: Annotated[int, typer.Option(min=1, help="Timed prefills of each answer.")] = 2,
    threads: Threads = 1,
    json: JsonFlag = False,
) -> None:
    """Ask a small trained Qwen2.5-Omni about clips, dense and pruned, right and wrong marked.

    Settings come from the options, then from --preset or --config, then from the fastav_config.json
    in the model's folder. One thread is the quickest for a model this small.

    Example: fastav demo --video my.mp4 --question "Which colour is the circle?"
    """
    load_libraries()
    from fastav_plugin.cli.tables.demo import (
        print_answers,
        print_costs,
        print_record,
        print_verdict,
    )
    from fastav_plugin.lab.bench.record import read_record
    from fastav_plugin.lab.demo.clips import own_clip, sample_clips
    from fastav_plugin.lab.demo.own_clip import default_questions
    from fastav_plugin.lab.demo.run import run_demo, steps
    from fastav_plugin.lab.testbed.model import check_processor

    folder = find_model(model)
    settings = pruning.of(folder, config)
    configs = settings.configs(folder, method, DEFAULT_METHODS)
    with progress("media", None):
        if video is None:
            clips = sample_clips(question or ())
        else:
            asked = question or default_questions()
            clips = [own_clip(video, asked, allow_damaged=allow_damaged)]
    machine = Machine(dtype="float32", threads=threads)
    processor = machine.load_processor(folder)
    check_processor(processor)
    loaded = machine.load_model(folder)
    with progress("demo", steps(clips, len(configs), repeats)) as tick:
        found = run_demo(loaded, processor, clips, configs, output, repeats=repeats, tick=tick)
    settings.say(method)
    if json:
        print_json({**found.to_dict(), "output": str(output)})
        return
    print_answers(found)
    print_costs(found)
    print_record(read_record())
    print_verdict(found)
    for text in found.notes:
        note(text)
    note("Written: " + ", ".join(str(path) for path in found.files))
