"""Options that several commands share, and the FastAVConfigs they make."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fastav_plugin.calibration_file import read_calibration
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.evaluation.formats.registry import FORMATS
from fastav_plugin.evaluation.matching import RULES
from fastav_plugin.global_rule import read_rules

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", "-m", help="A method, or several joined by '+'. May be repeated."),
]
Rule = Annotated[
    str | None,
    typer.Option(
        "--rule",
        help="FastAV's global cut: 'below 750', or one rule per modality: "
        "'video=all, audio=first 10 tokens'.",
    ),
]
DropRatio = Annotated[
    float | None, typer.Option("--drop-ratio", help="FastAV's P, in \\[0, 1). Default 0.2.")
]
KeepRatio = Annotated[
    float | None,
    typer.Option("--keep-ratio", help="Visual share DivPrune keeps, in (0, 1]. Default 0.5."),
]
AudioKeepRatio = Annotated[
    float | None,
    typer.Option("--audio-keep-ratio", help="Audio share DivPrune keeps. Default: all."),
]
TargetFlops = Annotated[
    float | None,
    typer.Option(
        "--target-flops",
        help="Choose the ratios that are not given so that prefill takes this share of the dense "
        "FLOPs, in (0, 1].",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Any other field of FastAVConfig: 'global_layer=10'. May be repeated."
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="What `fastav calibrate` chose for this model; other options win over it.",
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]
ModelFolder = Annotated[
    Path,
    typer.Argument(exists=True, file_okay=False, help="Folder of a checkpoint.", metavar="DIR"),
]

# How a dataset's file is read.
DataFormat = Annotated[
    str | None,
    typer.Option("--format", help=f"{', '.join(FORMATS)}. Default: told by the first row."),
]
MediaFolders = Annotated[
    list[Path] | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="Folder of its media. May be repeated. Default: the file's own.",
    ),
]
AnswersFile = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Answers of --data, by question_id."),
]
PromptTemplate = Annotated[
    str | None,
    typer.Option(help="Instead of the format's: '{question}', '{question}\\n{options}' ..."),
]
Match = Annotated[
    str | None,
    typer.Option(help=f"Matching rule instead of the format's: {', '.join(RULES)}."),
]


@dataclass(frozen=True)
class Ratios:
    """The pruning options of one command line."""

    rule: str | None = None
    drop_ratio: float | None = None
    keep_ratio: float | None = None
    audio_keep_ratio: float | None = None
    settings: Sequence[str] = ()
    calibration: Path | None = None

    def overrides(self) -> dict[str, Any]:
        """Fields of FastAVConfig that the user gave.

        Raises:
            ConfigError: a setting that is not `name=value`.
        """
        named = {
            "global_rule": None if self.rule is None else read_rules(self.rule),
            "fine_drop_ratio": self.drop_ratio,
            "visual_keep_ratio": self.keep_ratio,
            "audio_keep_ratio": self.audio_keep_ratio,
            "calibration": None if self.calibration is None else str(self.calibration),
        }
        found = {name: value for name, value in named.items() if value is not None}
        for setting in self.settings or ():
            name, equals, value = setting.partition("=")
            if not equals:
                raise ConfigError(f"`--set` takes name=value, got {setting!r}.")
            found[name.strip()] = _value(value.strip())
        return found

    def over(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that the user gave, over those of a model folder's fastav_config.json."""
        return laid_over(saved, self.overrides())

    def methods(self, asked: Sequence[str] | None, default: Sequence[str]) -> list[str]:
        """The methods asked for without "dense"; else the calibration's, else the default."""
        calibrated = _calibrated(self.overrides()).get("method")
        names = asked or (default if calibrated is None else (calibrated,))
        return [name for name in names if name != "dense"]


def laid_over(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a config over those that were saved before.

    A calibration that is given goes before what was saved of the fields it decides.
    """
    decided = _calibrated(given)
    return {**{name: value for name, value in saved.items() if name not in decided}, **given}


def _calibrated(given: Mapping[str, Any]) -> dict[str, Any]:
    path = given.get("calibration")
    return {} if path is None else read_calibration(path).settings


def make_configs(
    model: Any,
    methods: Sequence[str] | None,
    ratios: Ratios,
    default: Sequence[str],
    **budget: Any,
) -> list[FastAVConfig]:
    """One config per method, fit for a model or its configuration.

    "dense" is always the reference, so asking for it adds nothing. `budget` are the
    `target_flops` and `prompt` of `FastAVConfig.for_model`.
    """
    names = ratios.methods(methods, default)
    overrides = {**ratios.overrides(), **budget}
    return [FastAVConfig.for_model(model, method=name, **overrides) for name in names]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
