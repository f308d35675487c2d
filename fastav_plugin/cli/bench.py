"""fastav bench: dense and pruned prefill side by side on random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fastav_plugin.bench import RULE, Case, Plan, describe, run_bench, spread
from fastav_plugin.bench_clip import CLIP_SHAPES, ClipPlan
from fastav_plugin.cli.bench_clip import run_on_clip
from fastav_plugin.cli.console import percent, print_json, print_table, progress, seconds
from fastav_plugin.cli.options import (
    AudioKeepRatio,
    DropRatio,
    JsonFlag,
    KeepRatio,
    Ratios,
    Rule,
    Settings,
    Threads,
)
from fastav_plugin.errors import ConfigError
from fastav_plugin.plan import PromptSize


def run(
    shape: Annotated[
        str,
        typer.Option(
            help="tiny, qwen2-0.5b, qwen2-1.5b, qwen2-7b; or videollama2-av, a whole model with "
            "its towers on a real clip (17 GB)."
        ),
    ] = "qwen2-0.5b",
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods to measure, separated by commas. Default: fastav, divprune and "
            "fastav+divprune; fastav alone for videollama2-av."
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Measured rounds. Default: 5, or 1 for videollama2-av."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float32 or float16.")] = "bfloat16",
    threads: Threads = None,
    text: Annotated[int, typer.Option(min=0, help="Text tokens.")] = 50,
    video: Annotated[
        int | None, typer.Option(min=0, help="Video tokens. Default: 676, or the clip's.")
    ] = None,
    audio: Annotated[
        int | None, typer.Option(min=0, help="Audio tokens. Default: 1496, or the clip's.")
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(
            "--clip",
            exists=True,
            dir_okay=False,
            help="For videollama2-av: a file with pictures and sound. Default: a shipped one.",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=2, help="For videollama2-av: frames taken of the clip. Default: 8."),
    ] = None,
    rule: Rule = None,
    drop_ratio: DropRatio = None,
    keep_ratio: KeepRatio = None,
    audio_keep_ratio: AudioKeepRatio = None,
    settings: Settings = None,
    json: JsonFlag = False,
) -> None:
    """Measure the time to the first token, dense and pruned in turns in one process.

    The weights are random and made directly in the dtype: time does not depend on their values.
    One warm-up round, then medians. Three dense cases show what the plugin costs where it does
    nothing; their logits must equal the stock ones bit by bit. The default rule is that of the
    FastAV paper for VideoLLaMA2: all video, the first 10 audio tokens.

    With videollama2-av the towers encode a real clip once, then the whole model's decoder runs;
    token counts come from the clip, and peak memory is reported. A dense prefill takes about 40 s
    on two cores; each method runs once to warm up and once per repeat.

    Example: fastav bench --shape qwen2-0.5b --methods fastav --repeats 9 --threads 2
    """
    ratios = Ratios(rule, drop_ratio, keep_ratio, audio_keep_ratio, settings or ())
    on_clip = shape in CLIP_SHAPES
    _refuse(
        shape, {"video": video, "audio": audio} if on_clip else {"clip": clip, "frames": frames}
    )
    wanted = methods or ("fastav" if on_clip else "fastav,divprune,fastav+divprune")
    names = [name.strip() for name in wanted.split(",") if name.strip() not in ("", "dense")]
    if threads is not None:
        torch.set_num_threads(threads)
    if on_clip:
        whole = ClipPlan(
            shape=shape,
            methods=names,
            overrides=ratios.overrides(),
            clip=clip,
            frames=frames or 8,
            text=text,
            dtype=dtype,
            repeats=repeats or 1,
        )
        run_on_clip(whole, json)
        return
    plan = Plan(
        shape=shape,
        methods=names,
        overrides={"global_rule": RULE, **ratios.overrides()},
        prompt=PromptSize(
            text=text,
            video=676 if video is None else video,
            audio=1496 if audio is None else audio,
        ),
        dtype=dtype,
        repeats=repeats or 5,
    )
    plan.check()
    with progress("bench", plan.steps) as tick:
        cases = run_bench(plan, tick)
    found = describe(plan, cases)
    if json:
        print_json(found)
        return
    title = (
        f"{shape}, {dtype}, batch 1, {found['prompt']['tokens']} tokens "
        f"({plan.prompt.video} video, {plan.prompt.audio} audio), "
        f"threads: {found['threads']}, median of {plan.repeats} (interquartile range)"
    )
    columns = ["case", "first token", "of dense", "in theory", "pruner", "logits"]
    print_table(columns, [_row(case) for case in cases], title=title, left=(0, 5))


def _refuse(shape: str, options: dict[str, Any]) -> None:
    """Options of the other kind of shape, which would do nothing.

    Raises:
        ConfigError: one of them was given.
    """
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"{' and '.join(given)} cannot be used with --shape {shape}.")


def _row(case: Case) -> list[str]:
    found = case.to_dict()
    identical = "dense bits" if case.identical else "DIFFERENT"
    return [
        case.name,
        f"{seconds(found['median_seconds'])} ({seconds(spread(case.seconds))})",
        f"{percent(found['ratio'])} ({percent(found['iqr_ratio'])})",
        percent(case.theory),
        seconds(case.pruner_seconds) if case.pruned else "",
        "" if case.pruned else identical,
    ]
