"""fastav generate: one question to a local checkpoint under several methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers import AutoProcessor

from fastav_plugin.analysis.comparison import compare
from fastav_plugin.analysis.inspection import model_class, read_config
from fastav_plugin.attach import unwrap
from fastav_plugin.cli.console import note, print_json, progress
from fastav_plugin.cli.options import (
    AudioKeepRatio,
    CalibrationOption,
    DropRatio,
    JsonFlag,
    KeepRatio,
    Methods,
    Ratios,
    Rule,
    Settings,
    TargetFlops,
    Threads,
    make_configs,
)
from fastav_plugin.cli.tables.outcomes import print_outcomes
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.evaluation.sample_inputs import move_inputs
from fastav_plugin.media.inputs import SOUND, prepare_files, prepare_prompt, read_media
from fastav_plugin.model_overrides.own_models.registry import own_model

DTYPES = ("auto", "float32", "bfloat16", "float16")
MediaFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False)]


def run(
    model: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder of a checkpoint.")
    ],
    question: Annotated[str, typer.Option(help="What to ask about the media.")],
    video: MediaFile = None,
    audio: MediaFile = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="May be repeated."),
    ] = None,
    method: Methods = None,
    rule: Rule = None,
    drop_ratio: DropRatio = None,
    keep_ratio: KeepRatio = None,
    audio_keep_ratio: AudioKeepRatio = None,
    settings: Settings = None,
    calibration: CalibrationOption = None,
    target_flops: TargetFlops = None,
    sound: Annotated[
        str,
        typer.Option(
            help="The video's own sound: separate, interleaved or none. The models of this "
            "package lay it out as they were trained."
        ),
    ] = "separate",
    fps: Annotated[
        float,
        typer.Option(
            min=0.01, help="Video frames per second; the models of this package choose themselves."
        ),
    ] = 2.0,
    frames: Annotated[
        int | None,
        typer.Option(min=2, help="At most this many frames, or exactly for VideoLLaMA2."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Timed prefills of each method.")] = 1,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    threads: Threads = None,
    json: JsonFlag = False,
) -> None:
    """Ask a local checkpoint one question, dense and under each method.

    Example: fastav generate --model ./Qwen2.5-Omni-7B --video clip.mp4
    --question "What is heard?" --method fastav --method fastav+divprune
    """
    ratios = Ratios(rule, drop_ratio, keep_ratio, audio_keep_ratio, settings or (), calibration)
    _check(sound, dtype)
    config = read_config(model)
    configs = make_configs(config, method, ratios, ("fastav",))
    files: dict[str, Any] = {"images": image or [], "video": video, "audio": audio, "sound": sound}
    own = own_model(config) is not None
    media = None if own else read_media(**files, fps=fps, max_frames=frames)
    if threads is not None:
        torch.set_num_threads(threads)
    with progress("generate", 1 + (1 + len(configs)) * (1 + repeats)) as tick:
        loaded, processor = load(model, dtype, device)
        if media is None:
            inputs = prepare_files(processor, question, **files, frames=frames)
        else:
            inputs = prepare_prompt(processor, media, question)
        if target_flops is not None:
            budget = {"target_flops": target_flops, "prompt": inputs}
            configs = make_configs(loaded, method, ratios, ("fastav",), **budget)
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
    if json:
        data = [outcome.to_dict() for outcome in outcomes]
        print_json({"model": str(model), "question": question, "outcomes": data})
        return
    layers = len(outcomes[0].tokens_per_layer)
    cut = next((c.global_layer for c in configs if c.global_layer is not None), layers // 2)
    print_outcomes(outcomes, cut, title=question)
    if target_flops is not None:
        for config in configs:
            note(config.describe())
    for outcome in outcomes:
        if outcome.reason is not None:
            note(f"{outcome.method}: nothing was cut, because {outcome.reason}.")


def load(directory: Path, dtype: str = "auto", device: str = "cpu") -> tuple[Any, Any]:
    """The model and the processor in a folder, for text output.

    Raises:
        ConfigError: files that are missing or broken.
    """
    config = read_config(directory)
    try:
        own = own_model(config)
        processors: Any = AutoProcessor if own is None else own.processor_class()
        processor = processors.from_pretrained(directory, local_files_only=True)
        if not hasattr(processor, "tokenizer"):
            raise UnsupportedError(
                f"'{directory}' holds a {type(processor).__name__} and no processor of media."
            )
        model = model_class(config).from_pretrained(directory, dtype=dtype, local_files_only=True)
    except UnsupportedError:
        raise
    except Exception as error:  # files of any kind of damage, read by several libraries
        first = str(error).strip().split("\n")[0]
        raise ConfigError(f"Cannot load the checkpoint in '{directory}': {first}") from error
    try:
        return unwrap(model).to(device).eval(), processor
    except (RuntimeError, AssertionError) as error:
        first = str(error).strip().split("\n")[0]
        raise ConfigError(f"`--device` {device!r} cannot be used: {first}") from error


def _check(sound: str, dtype: str) -> None:
    for name, value, allowed in (("sound", sound, SOUND), ("dtype", dtype, DTYPES)):
        if value not in allowed:
            raise ConfigError(f"`--{name}` must be one of {', '.join(allowed)}, got {value!r}.")
