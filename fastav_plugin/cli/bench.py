"""fastav bench: dense and pruned side by side on random weights or a checkpoint."""

import dataclasses
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from fastav_plugin.cli.console import JsonFlag, make_room, note, print_json
from fastav_plugin.cli.options.checkpoint import Threads, limit_threads
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.media import existing_file
from fastav_plugin.cli.options.pruning import ConfigFile, Ratios
from fastav_plugin.cli.progress import load_libraries, progress
from fastav_plugin.errors import ConfigError

Count = Annotated[
    int | None, typer.Option(min=0, help="Tokens of this kind. Default: the shape's.")
]


@grouped
def run(
    *,
    shape: Annotated[
        str,
        typer.Option(
            help="tiny, qwen2-0.5b, qwen2-1.5b, qwen2-7b, llava-1.5-7b, llava-next-video-7b, "
            "qwen2.5-omni-3b, qwen2.5-omni-7b: a decoder of that size; the folder of a "
            "checkpoint or its hub id; or videollama2-av, a whole model with its encoders on a "
            "real clip (17 GB)."
        ),
    ] = "qwen2-0.5b",
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods to measure, separated by commas. Default: fastav, divprune and "
            "fastav+divprune; fastav alone for videollama2-av."
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Batch sizes, separated by commas. Default: 1.")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Prompt lengths, separated by commas: the media are scaled to fill them."
        ),
    ] = None,
    new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens generated in each run; from 2 on, decoding is measured too."
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Measured rounds. Default: 5, or 1 for videollama2-av."),
    ] = None,
    warm_up: Annotated[
        int | None, typer.Option(min=0, help="Warm-up rounds, which are not measured. Default: 1.")
    ] = None,
    idle: Annotated[
        bool | None,
        typer.Option(
            "--idle/--no-idle",
            help="Also measure three cases in which the plugin is loaded and prunes nothing. "
            "Default: only for one batch size and length.",
        ),
    ] = None,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Also run fastv and divprune as their authors' code does."),
    ] = False,
    dtype: Annotated[str, typer.Option(help="bfloat16, float32 or float16.")] = "bfloat16",
    attention: Annotated[
        str | None,
        typer.Option(help="sdpa, eager, flash_attention_2 ...: the same for every case."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...")] = None,
    threads: Threads = None,
    text: Count = None,
    image: Count = None,
    video: Count = None,
    audio: Count = None,
    clip: Annotated[
        Path | None,
        existing_file(
            "For videollama2-av: a file with pictures and sound. Default: a shipped one."
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Frames that the video is split into, for rules of frames. For videollama2-av: "
            "taken of the clip, default 8.",
        ),
    ] = None,
    config: ConfigFile = None,
    ratios: Ratios,
    plot: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw the times to this .png or .svg file.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the JSON to this file as well.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Measure generate(), dense and pruned alternately in one process, with the same attention.

    Random weights are made directly in the dtype: time does not depend on their values. One
    warm-up round, then medians. Three dense cases show what the plugin costs where it prunes
    nothing; their logits must equal the stock ones bit by bit. Media are random embeddings in the
    prompt, no encoder runs. Qwen2 shapes take the prompt and the rule of the FastAV paper for
    VideoLLaMA2: 676 video and 1,496 audio tokens, all video and the first 10 audio tokens kept;
    LLaVA shapes the keep ratios of the DivPrune paper.

    With videollama2-av the encoders read a real clip once, then the whole model's decoder runs;
    token counts come from the clip. A dense prefill takes about 40 s on two cores.

    Example: fastav bench --shape qwen2-0.5b --methods fastav --new-tokens 33 --threads 2
    """
    load_libraries()
    from fastav_plugin.analysis.drawing.page import check_drawing
    from fastav_plugin.cli.tables.bench import print_clip, print_point
    from fastav_plugin.lab.bench.clip import (
        CLIP_SHAPES,
        ClipPlan,
        describe_clip,
        make_clip_config,
        run_clip_bench,
    )
    from fastav_plugin.lab.bench.picture import draw_bench
    from fastav_plugin.lab.bench.plan import BenchPlan
    from fastav_plugin.lab.bench.run import describe, run_bench
    from fastav_plugin.lab.bench.shapes import SHAPES, find_shape

    media = {"image": image, "video": video, "audio": audio}
    grid: dict[str, Any] = {"batch": batch, "lengths": lengths, "new-tokens": new_tokens}
    grid |= {"warm-up": warm_up, "idle": idle, "attention": attention, "device": device}
    grid |= {"plot": plot, "output": output, "peers": peers or None}
    names = None if methods is None else [name.strip() for name in methods.split(",")]
    names = names and [name for name in names if name not in ("", "dense")]
    limit_threads(threads)
    clip_shape = shape in CLIP_SHAPES
    described = make_clip_config(shape) if clip_shape else find_shape(shape).config()
    settings = ratios.of(described, config)
    if shape in SHAPES and SHAPES[shape].overrides and not settings.base.fields:
        base = dataclasses.replace(settings.base, source=f"the defaults of the shape {shape!r}")
        settings = dataclasses.replace(settings, base=base)
    if names is None and (config is not None or ratios.preset is not None):
        names = settings.methods(None, ("fastav",))
    common: dict[str, Any] = {"shape": shape, "dtype": dtype, "overrides": settings.keywords}
    common |= _given(repeats=repeats)
    if clip_shape:
        _refuse(shape, media | grid)
        given = _given(methods=names or None, clip=clip, frames=frames, text=text)
        whole = ClipPlan(**common, **given)
        whole.check()
        with progress("bench", whole.steps) as tick:
            found = describe_clip(whole, run_clip_bench(whole, tick))
        settings.say(methods, option="--methods")
        if json:
            print_json(found)
        else:
            print_clip(found)
        return
    _refuse(shape, {"clip": clip})
    sizes, batches = _integers("lengths", lengths), _integers("batch", batch) or (1,)
    prompt = _given(text=text, **media, frames=frames)
    if "video" in prompt:
        prompt.setdefault("frames", 0)
    plan = BenchPlan(
        **common,
        methods=names,
        prompt=dataclasses.replace(find_shape(shape).prompt, **prompt) if prompt else None,
        lengths=sizes,
        batches=batches,
        attention=attention,
        **_given(device=device, warm_up=warm_up, new_tokens=new_tokens),
        peers=peers,
        idle=len(sizes) < 2 and len(batches) < 2 if idle is None else idle,
    )
    plan.check()
    if plot is not None:
        check_drawing(plot)
    make_room(plot, output)
    with progress("bench", plan.steps) as tick:
        found = describe(plan, run_bench(plan, tick))
    if output is not None:
        output.write_text(dumps(found, indent=2) + "\n", encoding="utf-8")
    if plot is not None:
        draw_bench(plot, found)
        note(f"Drawn: {plot}")
    settings.say(methods, option="--methods")
    if json:
        print_json(found)
        return
    for point in found["points"]:
        print_point(found, point)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; the others have defaults of the shape or the plan."""
    return {name: value for name, value in options.items() if value is not None}


def _integers(name: str, text: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"`--{name}` takes numbers separated by commas, got {text!r}.")
    return tuple(int(part) for part in parts)


def _refuse(shape: str, options: dict[str, Any]) -> None:
    """Refuse options that have no effect with this kind of shape."""
    given = [f"--{name}" for name in _given(**options)]
    if given:
        raise ConfigError(f"{' and '.join(given)} cannot be used with --shape {shape}.")
