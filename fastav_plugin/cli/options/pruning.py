"""The options that say what is pruned, and the FastAVConfigs they make."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastav_plugin.analysis import DENSE
from fastav_plugin.cli.console import note
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError
from fastav_plugin.global_rule import read_rules
from fastav_plugin.hub.ids import is_hub_id

if TYPE_CHECKING:
    from fastav_plugin.settings.base import BaseSettings

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
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE|FOLDER",
        help="Settings that FastAVConfig.save_pretrained wrote, instead of the fastav_config.json "
        "in the model's folder; other options override them.",
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
        float | None, typer.Option(help="FastAV's P, in [0, 1). Default 0.2.")
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
    preset: Annotated[
        str | None,
        typer.Option(
            help="safe, balanced or fast: a method and its settings for the kinds of media that "
            "the model takes; other options override them."
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

    def given(self) -> list[str]:
        """The options among these that the user gave, but for a preset."""
        named = [each.name for each in fields(self) if each.name not in ("settings", "preset")]
        found = [f"--{n.replace('_', '-')}" for n in named if getattr(self, n) is not None]
        return found + [f"--set {text.partition('=')[0].strip()}" for text in self.settings or ()]

    def of(self, model: Any, config: str | None = None) -> "Settings":
        """What these options, and a settings file, come to for a model.

        Args:
            model: the checkpoint's folder, its configuration, or the model.
            config: of `--config`.

        Raises:
            ConfigError: an unknown preset, or a file that cannot be read.
        """
        from fastav_plugin.settings.resolution import base_settings

        base = base_settings(model, config, self.preset)
        return Settings(self, base, self.overrides(), config)


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


@dataclass(frozen=True)
class Settings:
    """What a command prunes with: options over a preset, a file or the family's defaults.

    Attributes:
        options: as they were given.
        base: what they are laid over.
        fields: of FastAVConfig, that the options give.
        config: of `--config`.
    """

    options: Ratios
    base: "BaseSettings"
    fields: Mapping[str, Any]
    config: str | None

    @property
    def keywords(self) -> dict[str, Any]:
        """What `FastAVConfig.for_model` takes, except model and method."""
        place = {} if self.base.place is None else {"config": self.base.place}
        preset = {} if self.options.preset is None else {"preset": self.options.preset}
        return {**self.fields, **place, **preset}

    def methods(self, asked: Sequence[str] | None, default: Sequence[str]) -> list[str]:
        """The methods asked for; else that of a calibration, `--config` or preset; else a default.

        The default is the file's in the model's folder, where one method is wanted, and goes with
        it, where several are compared. "dense" is always the reference, so asking for it adds
        nothing.
        """
        own = self.base.fields.get("method")
        chosen = _calibrated(self.fields).get("method")
        if chosen is None and (self.config is not None or self.options.preset is not None):
            chosen = own
        if chosen is None and own is not None:
            default = (own,) if len(default) == 1 else [*(own,) * (own not in default), *default]
        names = asked or (default if chosen is None else (chosen,))
        return [name for name in names if name != DENSE]

    def configs(
        self, model: Any, methods: Sequence[str] | None, default: Sequence[str], **budget: Any
    ) -> list[FastAVConfig]:
        """One config per method; `model` and `budget` as `FastAVConfig.for_model` takes them."""
        names = self.methods(methods, default)
        return [
            FastAVConfig.for_model(model, method=name, **self.keywords, **budget) for name in names
        ]

    def say(self, methods: Sequence[str] | str | None = None) -> None:
        """Write the line on stderr that says where the settings come from; `methods` as asked."""
        given = [*self.options.given(), *(["--method"] if methods else [])]
        listed = " and ".join(filter(None, [", ".join(given[:-1]), *given[-1:]]))
        note(f"Settings: {self.base.source}" + (f", with {listed} given" if given else ""))


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


def split_configs(texts: Sequence[str] | None) -> tuple[str | None, dict[str, str]]:
    """The FILE|FOLDER among the values of a repeated `--config`, and those with a name.

    Raises:
        ConfigError: two files without a name, or two values with one.
    """
    place, named = None, {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or Path(text).exists():
            if not Path(text).exists() and not is_hub_id(text):
                raise ConfigError(f"`--config` takes a file, a folder or NAME=JSON, got {text!r}.")
            if place is not None:
                raise ConfigError("Give one `--config` without a name, which others start from.")
            place = text
            continue
        name = name.strip()
        if not name:
            raise ConfigError(f"`--config` takes NAME=JSON, got {text!r}.")
        if name in named:
            raise ConfigError(
                f"Two settings are named {name!r}. Give every `--config` a name of its own."
            )
        named[name] = value.strip()
    return place, named


def make_settings(
    model: Any, methods: Sequence[str], named: Mapping[str, str], settings: Settings
) -> dict[str, FastAVConfig]:
    """The settings to compare, by name: methods, and named JSON or files, over `settings`."""
    from fastav_plugin.settings.base import laid_over

    names = [*(name for name in methods if name != DENSE), *named]
    for name in names:
        if name == DENSE or names.count(name) > 1:
            raise ConfigError(
                f"Two settings are named {name!r}. Give every `--config` a name of its own."
            )
    wanted = {name: _fields(named[name]) if name in named else {"method": name} for name in names}
    return {
        name: FastAVConfig.for_model(model, **laid_over(settings.keywords, fields))
        for name, fields in wanted.items()
    }


def _fields(text: str) -> dict[str, Any]:
    if not text.startswith("{"):
        return FastAVConfig.from_pretrained(text).to_dict()
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise ConfigError(f"`--config` holds no JSON object: {error}. Got {text!r}.") from error
