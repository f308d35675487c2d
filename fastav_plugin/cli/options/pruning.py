"""The options that say what is pruned, and the FastAVConfigs they make."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fastav_plugin.analysis import DENSE
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.global_rule import read_rules

#: What a command compares where nothing else is asked for.
DEFAULT_METHODS = ("fastav", "divprune", "fastav+divprune")

Methods = Annotated[
    list[str] | None,
    typer.Option("--method", "-m", help="A method, or several joined by '+'. May be repeated."),
]
TargetFlops = Annotated[
    float | None,
    typer.Option(
        help="Choose the ratios that are not given so that prefill takes this share of the dense "
        "FLOPs, in (0, 1].",
    ),
]


@dataclass(frozen=True)
class Ratios:
    """Rules and ratios of the methods, each as its option takes it."""

    rule: Annotated[
        str | None,
        typer.Option(
            help="FastAV's global cut: 'below 750', or one rule per modality: "
            "'video=all, audio=first 10 tokens'.",
        ),
    ] = None
    drop_ratio: Annotated[
        float | None, typer.Option(help="FastAV's P, in \\[0, 1). Default 0.2.")
    ] = None
    keep_ratio: Annotated[
        float | None, typer.Option(help="Visual share DivPrune keeps, in (0, 1]. Default 0.5.")
    ] = None
    audio_keep_ratio: Annotated[
        float | None, typer.Option(help="Audio share DivPrune keeps. Default: all.")
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any other field of FastAVConfig: 'global_layer=10'. May be repeated."
        ),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """Fields of FastAVConfig that the user gave."""
        named = {
            "global_rule": None if self.rule is None else read_rules(self.rule),
            "fine_drop_ratio": self.drop_ratio,
            "visual_keep_ratio": self.keep_ratio,
            "audio_keep_ratio": self.audio_keep_ratio,
        }
        found = {name: value for name, value in named.items() if value is not None}
        for setting in self.settings or ():
            name, equals, value = setting.partition("=")
            if not equals:
                raise ConfigError(f"`--set` takes name=value, got {setting!r}.")
            found[name.strip()] = _value(value.strip())
        return found

    def methods(self, asked: Sequence[str] | None, default: Sequence[str]) -> list[str]:
        """The methods asked for; else the calibration's, else the default.

        "dense" is always the reference, so asking for it adds nothing.
        """
        calibrated = _calibrated(self.overrides()).get("method")
        names = asked or (default if calibrated is None else (calibrated,))
        return [name for name in names if name != DENSE]

    def configs(
        self, model: Any, methods: Sequence[str] | None, default: Sequence[str], **more: Any
    ) -> list[FastAVConfig]:
        """One config per method; `model` and `more` are as `FastAVConfig.for_model` takes them."""
        return [
            FastAVConfig.for_model(model, method=name, **_laid_over(more, self.overrides()))
            for name in self.methods(methods, default)
        ]

    def overrides_of_folder(self, folder: Path) -> dict[str, Any]:
        """As `overrides`, over the fields in the folder's fastav_config.json."""
        from fastav_plugin.evaluation.answers import saved_overrides

        return _laid_over(saved_overrides(folder), self.overrides())

    def configs_of_folder(self, folder: Path, methods: Sequence[str] | None) -> list[FastAVConfig]:
        """As `configs`, over the fields in the folder's fastav_config.json."""
        from fastav_plugin.evaluation.answers import saved_overrides
        from fastav_plugin.model_overrides.own_models.configuration import read_config

        saved = saved_overrides(folder)
        return self.configs(read_config(folder), methods, DEFAULT_METHODS, **saved)


@dataclass(frozen=True)
class Pruning(Ratios):
    """Rules and ratios of the methods, and what a calibration chose."""

    calibration: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="File that `fastav calibrate` wrote for this model; other options override it.",
        ),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """Fields of FastAVConfig that the user gave; see Ratios."""
        given = {} if self.calibration is None else {"calibration": str(self.calibration)}
        return {**given, **super().overrides()}


def _laid_over(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a config over those that were saved before.

    A calibration that is given goes before what was saved of the fields it decides.
    """
    decided = _calibrated(given)
    return {**{name: value for name, value in saved.items() if name not in decided}, **given}


def _calibrated(given: Mapping[str, Any]) -> dict[str, Any]:
    path = given.get("calibration")
    if path is None:
        return {}
    from fastav_plugin.calibration_file import read_calibration  # imports torch

    return read_calibration(path).settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def make_settings(
    model: Any, methods: Sequence[str], named: Sequence[str], overrides: Mapping[str, Any]
) -> dict[str, FastAVConfig]:
    """The settings to compare, by name: methods, and NAME=JSON or NAME=FILE, over `overrides`."""
    wanted = [(name, {"method": name}) for name in methods if name != DENSE]
    for text in named:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"`--config` takes NAME=JSON, got {text!r}.")
        wanted.append((name.strip(), _fields(value.strip())))
    names = [name for name, _ in wanted]
    for name in names:
        if name == DENSE or names.count(name) > 1:
            raise ConfigError(
                f"Two settings are named {name!r}. Give every `--config` a name of its own."
            )
    return {
        name: FastAVConfig.for_model(model, **_laid_over(overrides, fields))
        for name, fields in wanted
    }


def _fields(text: str) -> dict[str, Any]:
    if not text.startswith("{"):
        return FastAVConfig.from_pretrained(text).to_dict()
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise ConfigError(f"`--config` holds no JSON object: {error}. Got {text!r}.") from error
